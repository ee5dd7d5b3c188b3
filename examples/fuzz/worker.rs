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
use composer_nas::Seed;
use rand::{RngExt, seq::IndexedRandom};

use crate::{
    Args, HANGS, INPUT, MEMORY, NUMBER, STDERR, TALLY, Tally,
    mutate::mutate,
    patience,
    targets::{Seen, Target, fixtures},
};

/// Inputs with a new kind of answer that are kept as beginnings of further ones: so many that were read, and that were
/// not.
const MOST_KEPT: usize = 200;
/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// Attempts to make a finding smaller.
const SHRINKS: usize = 400;
/// Inputs after which the file of the worker's messages is emptied.
const CLEANED_EVERY: u64 = 10_000;

/// Tries what is stored, then mutations of it until the time is over, beginning with input number `from`.
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
    /// Input and its number, as the driver finds them when this process dies.
    files: [File; 2],
    /// What is stored. It is tried as it is, then mutated.
    stored: Vec<Vec<u8>>,
    /// Further inputs to mutate: those that were not read, and those that were.
    kept: [Vec<Vec<u8>>; 2],
    /// The kinds of answers so far.
    answers: BTreeSet<String>,
    tally: Tally,
    watch: &'static Watch,
}

impl<'a> Worker<'a> {
    fn new(args: &'a Args, target: &'static Target, folder: &'a Path) -> anyhow::Result<Self> {
        let open = |name| File::options().create(true).truncate(true).write(true).read(true).open(folder.join(name));
        // They also leave in the folder what the target works with, whichever inputs it then gets.
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

    /// Input `number`, a function of it, the seed and the inputs before.
    fn mutation(&self, seed: u64, number: u64) -> Vec<u8> {
        let mut rng = Seed(seed).rng(&format!("fuzz/{}", self.target.name), number);
        let [one, other] = [0; 2].map(|_| {
            // Mostly near what is right: what is refused early shows little.
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

    /// Tries one input and keeps what is new about it.
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

    /// Runs the target; the error is a kind of finding.
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

    /// A message without the worker's folder and what else differs between inputs.
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

    /// The input without what is not needed for the same finding: pieces are left out, large ones first.
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

    /// Writes down what the driver is to know.
    fn note(&self) -> anyhow::Result<()> {
        let beside = self.folder.join("tally.part");
        fs::write(&beside, serde_json::to_vec(&self.tally)?)?;
        Ok(fs::rename(beside, self.folder.join(TALLY))?)
    }
}

/// Replaces what an open file holds.
fn rewrite(file: &mut File, bytes: &[u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

/// Writes a finding into the folder of its target, under a name that its kind gives.
pub fn keep(findings: &Path, target: &Target, kind: &str, input: &[u8]) -> anyhow::Result<PathBuf> {
    let folder = findings.join(target.name);
    fs::create_dir_all(&folder)?;
    let (word, _) = kind.split_once(':').unwrap_or((kind, ""));
    let path = folder.join(format!("{word}-{:08x}", Seed(0).derive(kind, 0).0 as u32));
    fs::write(&path, input)?;
    Ok(path)
}

/// Tells of a finding and of how to see it again.
pub fn announce(target: &Target, kind: &str, file: &Path) {
    println!("FOUND {}: {kind}\n  cargo run --release --example fuzz -- {0} --files {}", target.name, file.display());
}

/// A message without what differs between inputs: numbers, and what stands in quotes.
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

/// Where and why the program panicked last.
static PANIC: Mutex<String> = Mutex::new(String::new());

fn remember(info: &PanicHookInfo) {
    let place = info.location().map(|place| {
        // Below the sources of a crate, wherever those are.
        let file = place.file();
        let file = file.rfind("/src/").and_then(|at| file[..at].rfind('/')).map_or(file, |at| &file[at + 1..]);
        format!("{file}:{}", place.line())
    });
    let words = info.payload_as_str().unwrap_or_default();
    let text = format!("{} {}", place.unwrap_or_default(), skeleton(words));
    *PANIC.lock().unwrap_or_else(PoisonError::into_inner) = text;
}

/// Ends the process when an input takes too long.
struct Watch {
    /// When the input was begun, in milliseconds from `start`, plus one; zero between inputs.
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
