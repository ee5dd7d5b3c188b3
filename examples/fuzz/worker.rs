//! The process that tries inputs on one target.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use composer_nas::seed::Seed;
use rand::{RngExt, seq::IndexedRandom};

use crate::{
    Args, HANGS, INPUT, MEMORY, NUMBER, STDERR, TALLY, Tally,
    mutate::mutate,
    patience,
    targets::{Seen, Target, fixtures},
};

/// The maximum number of inputs with a new description that are kept for mutation, both for accepted and for rejected
/// ones.
const MOST_KEPT: usize = 200;
/// The interval of progress messages.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// The maximum number of attempts to shrink a finding.
const SHRINKS: usize = 400;
/// The number of inputs after which the file with the worker's messages is truncated.
const CLEANED_EVERY: u64 = 10_000;

/// Tries the stored inputs, then mutations until the time is over, starting with input number `from`.
pub fn run(args: &Args, folder: &Path, from: u64) -> anyhow::Result<()> {
    let target = *crate::wanted(&args.targets)?.first().context("a worker has a target")?;
    panic::set_hook(Box::new(remember));
    let mut worker = Worker::new(args, target, folder)?;
    let begun = Instant::now();
    let mut told = Instant::now();
    for number in from.. {
        let stored = usize::try_from(number).ok().and_then(|at| worker.stored.get(at).cloned());
        let over = begun.elapsed().as_secs_f64() >= args.seconds || !args.files.is_empty();
        let input = match stored {
            Some(input) => input,
            None if over => break,
            None => worker.mutation(args.seed, number),
        };
        worker.attempt(number, &input)?;
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            let Tally { tried, known, .. } = worker.tally;
            let rate = tried as f64 / begun.elapsed().as_secs_f64();
            println!("{:<16} {tried:>9} inputs so far, {rate:.0} per second, corpus {known}", target.name);
        }
    }
    worker.note()
}

struct Worker<'a> {
    args: &'a Args,
    target: &'static Target,
    folder: &'a Path,
    /// The input and its number, for the driver if this process dies.
    files: [File; 2],
    /// The stored inputs, which are tried unchanged first and then mutated.
    stored: Vec<Vec<u8>>,
    /// Further inputs for mutation: rejected and accepted ones.
    kept: [Vec<Vec<u8>>; 2],
    /// All descriptions so far.
    answers: BTreeSet<String>,
    tally: Tally,
    watch: &'static Watch,
}

impl<'a> Worker<'a> {
    fn new(args: &'a Args, target: &'static Target, folder: &'a Path) -> anyhow::Result<Self> {
        let open = |name| File::options().create(true).truncate(true).write(true).read(true).open(folder.join(name));
        // Seeds also create files in the folder that the target needs, whatever its inputs.
        let mut stored = (target.seeds)(folder).map_err(|error| error.context("seeds"))?;
        if args.files.is_empty() {
            for path in fixtures(&args.inputs.join(target.name))? {
                stored.push(fs::read(&path).with_context(|| path.display().to_string())?);
            }
        } else {
            stored.clear();
            for path in &args.files {
                stored.push(fs::read(path).with_context(|| path.display().to_string())?);
            }
        }
        let files = [open(INPUT)?, open(NUMBER)?];
        let kept = Default::default();
        let answers = BTreeSet::new();
        let watch = Watch::start(patience(args));
        let tally = Tally { known: stored.len(), ..Tally::default() };
        Ok(Self { args, target, folder, files, stored, kept, answers, tally, watch })
    }

    /// Returns input `number`. It depends only on this number, the seed and the inputs before.
    fn mutation(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut rng = Seed(seed).rng(&format!("fuzz/{}", self.target.name), number);
        let [one, other] = [0; 2].map(|_| {
            // Mostly mutate accepted inputs: those that are rejected early reveal little.
            let from = match rng.random_range(0..8) {
                0 => &self.kept[0],
                1..=3 => &self.kept[1],
                _ => &self.stored,
            };
            from.choose(&mut rng).or_else(|| self.stored.choose(&mut rng)).map_or(&[][..], Vec::as_slice)
        });
        if one.is_empty() && rng.random_bool(0.5) {
            return (0..rng.random_range(0..64)).map(|_| rng.random()).collect();
        }
        mutate(one, other, &mut rng)
    }

    /// Tries one input and records what is new.
    fn attempt(&mut self, number: u64, input: &[u8]) -> anyhow::Result<()> {
        rewrite(&mut self.files[1], &number.to_le_bytes())?;
        let outcome = self.outcome(input)?;
        self.tally.tried += 1;
        match outcome {
            Ok(Seen { read, what }) => {
                self.tally.read += u64::from(read);
                let new = self.answers.insert(format!("{read} {}", self.skeleton(&what)));
                let kept = &mut self.kept[usize::from(read)];
                if new && number >= self.stored.len() as u64 && kept.len() < MOST_KEPT {
                    kept.push(input.to_vec());
                    self.tally.known += 1;
                }
            }
            Err(kind) => self.found(kind, input)?,
        }
        if number.is_multiple_of(CLEANED_EVERY) {
            File::options().write(true).open(self.folder.join(STDERR))?.set_len(0)?;
            self.note()?;
        }
        Ok(())
    }

    /// Runs the target. The error is a kind of finding.
    fn outcome(&mut self, input: &[u8]) -> anyhow::Result<Result<Seen, String>> {
        rewrite(&mut self.files[0], input)?;
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        self.watch.begin();
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| (self.target.run)(input, self.folder)));
        self.watch.end();
        let used = MEMORY.peak_usage().saturating_sub(before) >> 20;
        Ok(match outcome {
            Err(_) => Err(format!("panic: {}", PANIC.lock().unwrap_or_else(PoisonError::into_inner))),
            Ok(Err(broken)) => Err(format!("broken: {}", self.skeleton(&broken.to_string()))),
            Ok(Ok(seen)) if used > self.args.memory => {
                Err(format!("memory: more than {} MiB: {}", self.args.memory, self.skeleton(&seen.what)))
            }
            Ok(Ok(seen)) => Ok(seen),
        })
    }

    /// Returns a message without the worker's folder and other parts that differ between inputs.
    fn skeleton(&self, message: &str) -> String {
        skeleton(&message.replace(&*self.folder.to_string_lossy(), ""))
    }

    fn found(&mut self, kind: String, input: &[u8]) -> anyhow::Result<()> {
        if let Some(seen) = self.tally.found.get_mut(&kind) {
            seen.0 += 1;
            return Ok(());
        }
        let small = self.shrunk(&kind, input)?;
        let file = keep(&self.args.findings, self.target, &kind, &small)?;
        announce(self.target, &kind, &file);
        self.tally.found.insert(kind, (1, file));
        self.note()
    }

    /// Shrinks an input while it has the same finding, by removing pieces, large ones first.
    fn shrunk(&mut self, kind: &str, input: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut small = input.to_vec();
        let mut piece = input.len() / 2;
        let mut left = SHRINKS;
        let end = Instant::now() + Duration::from_secs(5);
        while piece > 0 {
            let mut at = 0;
            while at < small.len() {
                if left == 0 || Instant::now() > end {
                    return Ok(small);
                }
                left -= 1;
                let without = [&small[..at], &small[(at + piece).min(small.len())..]].concat();
                match self.outcome(&without)? {
                    Err(found) if found == kind => small = without,
                    _ => at += piece,
                }
            }
            piece /= 2;
        }
        Ok(small)
    }

    /// Writes the statistics for the driver.
    fn note(&self) -> anyhow::Result<()> {
        let beside = self.folder.join("tally.part");
        fs::write(&beside, serde_json::to_vec(&self.tally)?)?;
        Ok(fs::rename(beside, self.folder.join(TALLY))?)
    }
}

/// Replaces the contents of an open file.
fn rewrite(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

/// Writes a finding to the folder of its target, under a name derived from its kind.
pub fn keep(findings: &Path, target: &Target, kind: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = findings.join(target.name);
    fs::create_dir_all(&folder)?;
    let (word, _) = kind.split_once(':').unwrap_or((kind, ""));
    let path = folder.join(format!("{word}-{:08x}", Seed(0).derive(kind, 0).0 as u32));
    fs::write(&path, input)?;
    Ok(path)
}

/// Prints a finding and how to reproduce it.
pub fn announce(target: &Target, kind: &str, file: &Path) {
    println!("FOUND {}: {kind}\n  cargo run --release --example fuzz -- {0} --files {}", target.name, file.display());
}

/// Returns a message without the parts that differ between inputs: numbers and quoted text.
fn skeleton(message: &str) -> String {
    let mut quote = None;
    let mut escaped = false;
    let mut kept = String::new();
    for c in message.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(end) if c == end => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if c.is_ascii_alphabetic() || matches!(c, ' ' | ':') => kept.push(c),
            None => {}
        }
    }
    kept.chars().take(160).collect()
}

/// Location and message of the last panic.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn remember(info: &PanicHookInfo) {
    let place = info.location().map(|place| {
        // The path from the crate's folder on, wherever that is.
        let file = place.file();
        let file = file.rfind("/src/").and_then(|at| file[..at].rfind('/')).map_or(file, |at| &file[at + 1..]);
        format!("{file}:{}", place.line())
    });
    let words = info.payload_as_str().unwrap_or_default();
    let text = format!("{} {}", place.unwrap_or_default(), skeleton(words));
    *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

/// Ends the process if an input takes too long.
struct Watch {
    /// When the input was started, in milliseconds since `start`, plus one; zero between inputs.
    since: AtomicU64,
    start: Instant,
}

impl Watch {
    fn start(patience: Duration) -> &'static Self {
        let watch: &'static Self = Box::leak(Box::new(Self { since: AtomicU64::new(0), start: Instant::now() }));
        thread::spawn(move || {
            loop {
                thread::sleep(Duration::from_millis(50).min(patience));
                let since = watch.since.load(Ordering::Relaxed);
                if since > 0 && u128::from(watch.now() - since) > patience.as_millis() {
                    process::exit(HANGS);
                }
            }
        });
        watch
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64 + 1
    }

    fn begin(&self) {
        self.since.store(self.now(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.since.store(0, Ordering::Relaxed);
    }
}
