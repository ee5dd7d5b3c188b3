//! A cache of evaluations.

mod file;

pub use file::CacheError;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use self::file::Entry;
use super::{Context, EvalError, Evaluator, Progress};
use crate::{
    line_file::json::JsonFile,
    seed::Seed,
    space::Architecture,
    study::{Report, Trial},
};

/// Evaluates every pair of architecture and seed only once, and caches the report in memory and optionally in a file.
///
/// Errors are not cached, and neither are reports with scores that are not finite. Other numbers that are not finite
/// are [removed](Report::finite). If the same pair is requested while it is being evaluated, the second request waits
/// for the first.
///
/// For a cached report, the intermediate values of its [curve](Report::curve) are reported again, so a trial is stopped
/// early whether or not its report is cached.
///
/// ```
/// use composer_nas::{evaluate::Cached, prelude::*, study::{Origin, TrialId}};
/// let cached = Cached::new(from_fn("dear", |trial, _| Ok(Report::score("accuracy", trial.seed.0 as f64))));
/// let trial = Trial::new(TrialId(0), "AM".parse()?, Seed(1), Origin::Searcher);
/// cached.evaluate(&trial, &Context::default())?;
/// assert_eq!(cached.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Cached<E> {
    inner: E,
    memory: Mutex<Memory>,
    ended: Condvar,
}

type Key = (Architecture, Seed);

#[derive(Debug, Default)]
struct Memory {
    /// `None` during the evaluation.
    known: HashMap<Key, Option<Report>>,
    file: Option<JsonFile<Entry>>,
}

/// How long to wait before checking for cancellation.
const POLL: Duration = Duration::from_millis(20);

impl<E: Evaluator> Cached<E> {
    /// Caches reports in memory.
    pub fn new(inner: E) -> Self {
        Self { inner, memory: Mutex::default(), ended: Condvar::new() }
    }

    /// Caches reports in memory and in the file at `path`, with one JSON object per line. Reports that are in the file
    /// already are used. An evaluation whose line is incomplete, or could not be written to a full disk, is repeated by
    /// the next process.
    ///
    /// # Errors
    /// [`CacheError`] if the file is in use, damaged, not a cache, or was written by another evaluator.
    pub fn on_disk(inner: E, path: impl AsRef<Path>) -> Result<Self, CacheError> {
        let (file, entries) = file::open(path.as_ref(), inner.fingerprint())?;
        let known =
            entries.into_iter().map(|Entry { architecture, seed, report }| ((architecture, seed), Some(report)));
        let known = known.collect();
        Ok(Self { inner, memory: Mutex::new(Memory { known, file: Some(file) }), ended: Condvar::new() })
    }
}

impl<E> Cached<E> {
    /// Returns the number of cached reports.
    pub fn len(&self) -> usize {
        self.lock().known.values().flatten().count()
    }

    /// Returns whether there are no cached reports.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A poisoned lock can be ignored: nothing panics while it is held, and the data is always consistent.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the cached report, or `None` if the caller must evaluate.
    fn recall(&self, key: &Key, context: &Context) -> Result<Option<Report>, EvalError> {
        let mut memory = self.lock();
        loop {
            match memory.known.get(key) {
                Some(Some(report)) => return Ok(Some(report.clone())),
                Some(None) if context.cancelled() => return Err(EvalError::Cancelled),
                Some(None) => {
                    let waited = self.ended.wait_timeout(memory, POLL);
                    memory = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                None => {
                    memory.known.insert(key.clone(), None);
                    return Ok(None);
                }
            }
        }
    }
}

/// A started evaluation. Dropping it wakes up those who wait, also if the evaluation has panicked.
struct Begun<'a, E> {
    cached: &'a Cached<E>,
    key: Key,
}

impl<E> Begun<'_, E> {
    fn remember(&self, report: &Report) {
        let mut memory = self.cached.lock();
        let (architecture, seed) = self.key.clone();
        if let Some(file) = &mut memory.file {
            // Failing to write a copy must not lose the report.
            let _ = file.append(&Entry { architecture, seed, report: report.clone() });
        }
        memory.known.insert(self.key.clone(), Some(report.clone()));
    }
}

impl<E> Drop for Begun<'_, E> {
    fn drop(&mut self) {
        let mut memory = self.cached.lock();
        if memory.known.get(&self.key).is_some_and(Option::is_none) {
            memory.known.remove(&self.key);
        }
        drop(memory);
        self.cached.ended.notify_all();
    }
}

impl<E: Evaluator> Evaluator for Cached<E> {
    /// The fingerprint of the inner evaluator, since the reports are the same.
    fn fingerprint(&self) -> String {
        self.inner.fingerprint()
    }

    fn evaluate(&self, trial: &Trial, context: &Context) -> Result<Report, EvalError> {
        if context.cancelled() {
            return Err(EvalError::Cancelled);
        }
        // What a race cut short is not the whole measurement, and depends on the threshold.
        let seed = trial.race.as_ref().map_or(trial.seed, |race| trial.seed.derive(&race.fingerprint(), 0));
        let key = (trial.architecture.clone(), seed);
        if let Some(report) = self.recall(&key, context)? {
            let steps = report.curve.last().map_or(0, |&(step, _)| step);
            for &(step, value) in &report.curve {
                context.progress(Progress { stage: "remembered".into(), step, steps, value: Some(value) });
            }
            return if context.stopped().is_some() { Err(EvalError::Cancelled) } else { Ok(report) };
        }
        let begun = Begun { cached: self, key };
        let report = self.inner.evaluate(trial, context)?;
        if report.scores.values().any(|score| !score.is_finite()) {
            return Ok(report);
        }
        // Cache exactly what is returned, in a form that a file can store.
        let report = Report { curve: context.curve(), ..report }.finite();
        begun.remember(&report);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use super::*;
    use crate::{
        evaluate::{CancelToken, from_fn},
        line_file::LineFileError,
        study::{Goal, Origin, Threshold, TrialId},
        testkit,
    };

    fn trial(text: &str, seed: u64) -> Trial {
        Trial::new(TrialId(0), text.parse().unwrap(), Seed(seed), Origin::Searcher)
    }

    /// Counts its calls. The first call for "MM" fails and the one for "FF" panics.
    fn counting(calls: &Arc<AtomicUsize>) -> impl Evaluator + use<> {
        let calls = calls.clone();
        from_fn("counting", move |trial, context| {
            if context.cancelled() {
                return Err(EvalError::Cancelled);
            }
            let number = calls.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(5));
            match trial.architecture.letters().as_str() {
                "MM" if number == 0 => Err(EvalError::Transient("node lost".into())),
                "FF" if number == 0 => panic!("out of luck"),
                _ => {
                    let curve = vec![(1, 0.1), (2, 0.5)];
                    for &(step, value) in &curve {
                        context.progress(Progress { stage: String::new(), step, steps: 2, value: Some(value) });
                    }
                    if context.stopped().is_some() {
                        return Err(EvalError::Cancelled);
                    }
                    Ok(Report { curve, ..Report::score("accuracy", trial.seed.0 as f64) })
                }
            }
        })
    }

    fn evaluate(cached: &impl Evaluator, text: &str, seed: u64) -> Result<Report, EvalError> {
        cached.evaluate(&trial(text, seed), &Context::default())
    }

    #[test]
    fn the_same_is_evaluated_once_also_at_the_same_time() {
        let calls = Arc::default();
        let cached = Cached::new(counting(&calls));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert_eq!(evaluate(&cached, "AM", 3).unwrap().scores["accuracy"], 3.0));
            }
        });
        assert_eq!((calls.load(Ordering::SeqCst), cached.len()), (1, 1));
        evaluate(&cached, "AM", 4).unwrap();
        evaluate(&cached, "MA", 3).unwrap();
        evaluate(&cached, "MA", 3).unwrap();
        assert_eq!((calls.load(Ordering::SeqCst), cached.len()), (3, 3));
        let trials: Vec<_> = (0..4).map(|seed| trial("AM", seed)).collect();
        testkit::evaluator::check(&cached, &trials, &Goal::default()).unwrap();
    }

    #[test]
    fn errors_and_panics_are_forgotten() {
        let calls = Arc::default();
        let cached = Cached::new(counting(&calls));
        assert!(matches!(evaluate(&cached, "MM", 0), Err(EvalError::Transient(_))));
        assert!(cached.is_empty() && evaluate(&cached, "MM", 0).is_ok());
        let calls = Arc::default();
        let cached = Cached::new(counting(&calls));
        thread::scope(|scope| assert!(scope.spawn(|| evaluate(&cached, "FF", 0)).join().is_err()));
        assert!(evaluate(&cached, "FF", 0).is_ok());
    }

    #[test]
    fn who_waits_can_be_cancelled() {
        let cancel = CancelToken::default();
        let slow = from_fn("slow", |_, context| {
            while !context.cancelled() {
                thread::yield_now();
            }
            Err(EvalError::Cancelled)
        });
        let cached = Cached::new(slow);
        thread::scope(|scope| {
            let wait = || cached.evaluate(&trial("AM", 0), &Context::new(cancel.clone(), |_| ()));
            let waiting = [scope.spawn(wait), scope.spawn(wait)];
            thread::sleep(Duration::from_millis(20));
            cancel.cancel();
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap(), Err(EvalError::Cancelled));
            }
        });
    }

    #[test]
    fn what_is_remembered_is_stopped_like_what_is_not() {
        let cached = Cached::new(counting(&Arc::default()));
        let whole = evaluate(&cached, "AM", 0).unwrap();
        let under = |bar| cached.evaluate(&trial("AM", 0), &Context::default().threshold(bar));
        assert_eq!(under(Threshold::new([(1, 0.2)])), Err(EvalError::Cancelled));
        assert_eq!(under(Threshold::new([(1, 0.1), (2, 9.0)])), Ok(whole));
    }

    #[test]
    fn a_file_cut_at_any_byte_loses_at_most_the_line_it_falls_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.jsonl");
        let calls = Arc::default();
        let open = || Cached::on_disk(counting(&calls), &path);
        let cached = open().unwrap();
        let reports: Vec<_> = (0..2).map(|seed| evaluate(&cached, "AM", seed).unwrap()).collect();
        assert!(matches!(open(), Err(CacheError::File(LineFileError::Locked { .. }))));
        drop(cached);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            // A line is complete without its line feed.
            let lines = bytes[..bytes.len().min(cut + 1)].iter().filter(|&&byte| byte == b'\n').count();
            let cached = open().unwrap();
            assert_eq!(cached.len(), lines.saturating_sub(1), "cut at byte {cut}");
            if cut % 16 == 0 {
                for (seed, report) in (0..).zip(&reports) {
                    assert_eq!(evaluate(&cached, "AM", seed).as_ref(), Ok(report));
                }
                drop(cached);
                assert_eq!(fs::read(&path).unwrap(), bytes);
            }
        }
    }

    #[test]
    fn bad_numbers_are_left_out_and_bad_reports_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.jsonl");
        let evaluator = || {
            from_fn("odd", |trial, _| {
                let accuracy = if trial.seed.0 == 0 { f64::NAN } else { 0.5 };
                Ok(Report { standard_error: Some(f64::INFINITY), ..Report::score("accuracy", accuracy) })
            })
        };
        let cached = Cached::on_disk(evaluator(), &path).unwrap();
        let good = Report::score("accuracy", 0.5);
        assert!(evaluate(&cached, "AM", 0).unwrap().scores["accuracy"].is_nan());
        assert_eq!((evaluate(&cached, "AM", 1), evaluate(&cached, "AM", 1)), (Ok(good.clone()), Ok(good.clone())));
        drop(cached);
        // A line written by earlier versions.
        let text = fs::read_to_string(&path).unwrap();
        let line = text.lines().last().unwrap();
        let bad = line.replace("\"accuracy\":0.5", "\"accuracy\":null").replace("\"seed\":1", "\"seed\":0");
        let poisoned =
            line.replace("\"parameters\"", "\"train_flops\":null,\"parameters\"").replace("\"seed\":1", "\"seed\":2");
        fs::write(&path, format!("{text}{bad}\n{poisoned}\n")).unwrap();
        let cached = Cached::on_disk(evaluator(), &path).unwrap();
        assert_eq!((cached.len(), evaluate(&cached, "AM", 2)), (2, Ok(good)));
    }

    #[test]
    fn other_files_and_other_evaluators_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.jsonl");
        evaluate(&Cached::on_disk(counting(&Arc::default()), &path).unwrap(), "AM", 1).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let other = from_fn("another", |_, _| Err(EvalError::Cancelled));
        let error = Cached::on_disk(other, &path).err().unwrap();
        assert!(matches!(&error, CacheError::Changed { was, .. } if was == "counting"), "{error}");
        for (text, words) in [
            ("Dear diary\n".into(), "not a cache"),
            ("Dear diary".into(), "not a cache"),
            (good.replace('\n', "\r"), "not a cache"),
            (format!("{good}Dear diary"), "line 3"),
            (good.replace("\"version\":1", "\"version\":2"), "not a cache"),
            (good.replace("\"seed\"", "\"sead\""), "line 2"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = Cached::on_disk(counting(&Arc::default()), &path).err().unwrap().to_string();
            assert!(error.contains(words), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
