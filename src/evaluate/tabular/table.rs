//! A table of scores of architectures, measured with several seeds.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{RowError, TableError};
use crate::{
    seed::{Rng, Seed},
    space::{Architecture, SearchSpace},
    statistics::{mean, spearman, standard_deviation, standard_error},
    study::{Event, Goal, Origin, Report, Study},
};

/// Scores of architectures, each measured with several seeds. Larger is better.
///
/// A table may hold sequences of several lengths, as incremental strategies need them. Ranks and regrets compare
/// sequences of the same length.
///
/// ```
/// use composer_nas::evaluate::Table;
/// let table: Table = "architecture,seed,score\nAM,0,0.4\nAM,1,0.6\nMA,0,0.3\nMA,1,0.3\n".parse()?;
/// let am = "AM".parse()?;
/// let ma = "MA".parse()?;
/// assert_eq!((table.mean(&am), table.rank(&ma), table.regret(&ma)), (Some(0.5), Some(2), Some(0.2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Rows", into = "Rows")]
pub struct Table {
    evaluator: Option<String>,
    /// The names of the columns. The last is `score`.
    columns: Vec<String>,
    rows: BTreeMap<Architecture, BTreeMap<u64, Vec<f64>>>,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The architecture.
    pub architecture: Architecture,
    /// The seed of the evaluation.
    pub seed: u64,
    /// One number per column of the table. The last is the score.
    pub values: Vec<f64>,
}

/// The form in files, not yet validated.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    #[serde(default)]
    evaluator: Option<String>,
    columns: Vec<String>,
    rows: Vec<Row>,
}

/// The name of the column that ranks architectures.
pub(super) const SCORE: &str = "score";
/// The name of this score in a report.
pub(super) const ACCURACY: &str = "accuracy";

impl Table {
    /// Creates a table without rows. `columns` are the numbers of a measurement besides its score, such as scores of
    /// single tasks. `score` is added as the last column.
    ///
    /// # Errors
    /// [`TableError::Name`] if a name is not allowed for a column.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>) -> Result<Self, TableError> {
        let mut columns: Vec<String> = columns.into_iter().map(Into::into).collect();
        for (at, name) in columns.iter().enumerate() {
            let reserved = ["architecture", "seed", SCORE, ACCURACY].contains(&name.as_str());
            let unusable = name.trim() != name || name.is_empty() || name.contains([',', '"', '\n', '\r']);
            if reserved || unusable || columns[..at].contains(name) {
                return Err(TableError::Name(name.clone()));
            }
        }
        columns.push(SCORE.into());
        Ok(Self { evaluator: None, columns, rows: BTreeMap::new() })
    }

    /// Sets the [fingerprint](super::super::Evaluator::fingerprint) of the evaluator that measured the table.
    #[must_use]
    pub fn measured_by(self, fingerprint: impl Into<String>) -> Self {
        Self { evaluator: Some(fingerprint.into()), ..self }
    }

    /// Returns the fingerprint of the evaluator that measured the table, if it is known.
    pub fn evaluator(&self) -> Option<&str> {
        self.evaluator.as_deref()
    }

    /// Returns the names of the columns. The last is `score`.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Adds a measurement.
    ///
    /// # Errors
    /// [`RowError`] if the row does not fit the table. The table is then unchanged.
    pub fn insert(&mut self, row: Row) -> Result<(), RowError> {
        self.check(&row)?;
        self.rows.entry(row.architecture).or_default().insert(row.seed, row.values);
        Ok(())
    }

    /// Checks whether a measurement can be added.
    pub(super) fn check(&self, row: &Row) -> Result<(), RowError> {
        let Row { architecture, seed, values } = row;
        if values.len() != self.columns.len() {
            return Err(RowError::Ragged { found: values.len() + 2, expected: self.columns.len() + 2 });
        }
        if let Some((column, &value)) = self.columns.iter().zip(values).find(|(_, value)| !value.is_finite()) {
            return Err(RowError::NotFinite { column: column.clone(), value });
        }
        if self.contains(architecture, *seed) {
            return Err(RowError::Duplicate { architecture: architecture.clone(), seed: *seed });
        }
        Ok(())
    }

    /// Returns whether this architecture was measured with this seed.
    pub fn contains(&self, architecture: &Architecture, seed: u64) -> bool {
        self.rows.get(architecture).is_some_and(|seeds| seeds.contains_key(&seed))
    }

    /// Iterates over all measurements, by architecture, then by seed.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().flat_map(|(architecture, seeds)| {
            seeds.iter().map(|(&seed, values)| Row { architecture: architecture.clone(), seed, values: values.clone() })
        })
    }

    /// Returns the measurements of one architecture, by seed.
    pub(super) fn of(&self, architecture: &Architecture) -> Option<&BTreeMap<u64, Vec<f64>>> {
        self.rows.get(architecture)
    }

    /// Iterates over the measured architectures, in alphabetical order.
    pub fn architectures(&self) -> impl Iterator<Item = &Architecture> {
        self.rows.keys()
    }

    /// Returns the seeds with which every architecture was measured.
    pub fn seeds(&self) -> Vec<u64> {
        let first = self.rows.values().next().into_iter().flat_map(BTreeMap::keys).copied();
        first.filter(|seed| self.rows.values().all(|seeds| seeds.contains_key(seed))).collect()
    }

    /// Returns the scores of an architecture, by ascending seed. Empty if it is not in the table.
    pub fn scores(&self, architecture: &Architecture) -> Vec<f64> {
        let seeds = self.rows.get(architecture).into_iter().flatten();
        seeds.filter_map(|(_, values)| values.last().copied()).collect()
    }

    /// Returns the mean score over all seeds, or `None` if the architecture is not in the table.
    pub fn mean(&self, architecture: &Architecture) -> Option<f64> {
        Some(self.scores(architecture)).filter(|scores| !scores.is_empty()).map(|scores| mean(&scores))
    }

    /// Returns the standard deviation of the score between seeds, or `None` for fewer than two seeds.
    pub fn sd(&self, architecture: &Architecture) -> Option<f64> {
        standard_deviation(&self.scores(architecture))
    }

    /// Returns the standard error of the mean score, or `None` for fewer than two seeds.
    pub fn standard_error(&self, architecture: &Architecture) -> Option<f64> {
        standard_error(&self.scores(architecture))
    }

    /// Returns the architecture of `layers` layers with the highest mean score (the first on ties), or `None` if there
    /// is none.
    pub fn best(&self, layers: usize) -> Option<(&Architecture, f64)> {
        self.means(layers).reduce(|best, next| if next.1 > best.1 { next } else { best })
    }

    /// Returns the rank of an architecture: one more than the number of architectures of the same length with a higher
    /// mean score.
    pub fn rank(&self, architecture: &Architecture) -> Option<usize> {
        let mean = self.mean(architecture)?;
        Some(1 + self.means(architecture.len()).filter(|&(_, other)| other > mean).count())
    }

    /// Returns by how much the mean score of an architecture falls short of the best of the same length.
    pub fn regret(&self, architecture: &Architecture) -> Option<f64> {
        Some(self.best(architecture.len())?.1 - self.mean(architecture)?)
    }

    /// Returns Spearman's rank correlation of the mean scores of the architectures that both tables contain, or `None`
    /// if one side is constant. First select sequences of [one length](Self::of_length), because longer sequences often
    /// have higher scores.
    pub fn spearman(&self, other: &Table) -> Option<f64> {
        let pairs = self.architectures().filter_map(|a| Some((self.mean(a)?, other.mean(a)?)));
        let (ours, theirs): (Vec<_>, Vec<_>) = pairs.unzip();
        spearman(&ours, &theirs)
    }

    /// Returns the score of one measurement.
    pub(super) fn score(&self, architecture: &Architecture, seed: u64) -> Option<f64> {
        self.rows.get(architecture)?.get(&seed)?.last().copied()
    }

    /// Returns the values of a column, of all measurements.
    ///
    /// # Errors
    /// [`TableError::NoColumn`] if the table has no column of this name.
    pub fn column(&self, name: &str) -> Result<Vec<f64>, TableError> {
        let at = self.columns.iter().position(|column| column == name).ok_or_else(|| self.no_column(name))?;
        Ok(self.rows.values().flat_map(|seeds| seeds.values().filter_map(|values| values.get(at).copied())).collect())
    }

    /// Returns the same measurements with another score: the mean of the columns for which `choose` is true.
    ///
    /// # Errors
    /// [`TableError::NoColumn`] if `choose` is false for all columns.
    pub fn rescored(&self, choose: impl Fn(&str) -> bool) -> Result<Table, TableError> {
        let chosen: Vec<_> = (0..self.columns.len()).filter(|&at| choose(&self.columns[at])).collect();
        if chosen.is_empty() {
            return Err(self.no_column("that was chosen"));
        }
        let mut table = self.clone();
        for values in table.rows.values_mut().flat_map(BTreeMap::values_mut) {
            let score = mean(&chosen.iter().map(|&at| values[at]).collect::<Vec<_>>());
            values.splice(values.len() - 1.., [score]);
        }
        Ok(table)
    }

    /// Returns the measurements of sequences of `layers` layers.
    #[must_use]
    pub fn of_length(&self, layers: usize) -> Table {
        let mut table = self.clone();
        table.rows.retain(|architecture, _| architecture.len() == layers);
        table
    }

    /// Returns a bootstrap sample: for each architecture, as many measurements as it has, drawn from its own with
    /// replacement.
    #[must_use]
    pub fn resampled(&self, rng: &mut Rng) -> Table {
        let mut table = self.clone();
        for seeds in table.rows.values_mut() {
            let measured: Vec<_> = seeds.values().cloned().collect();
            seeds.values_mut().for_each(|values| values.clone_from(&measured[rng.random_range(0..measured.len())]));
        }
        table
    }

    /// Checks that the table contains exactly the sequences of the space, all measured with the same seeds.
    ///
    /// # Errors
    /// [`TableError::Incomplete`] lists the missing measurements, [`TableError::Outside`] names a sequence outside the
    /// space.
    pub fn complete(&self, space: &SearchSpace) -> Result<(), TableError> {
        let belongs = |a: &&Architecture| space.contains(a) || space.is_part(a);
        if let Some(stranger) = self.architectures().find(|a| !belongs(a)) {
            return Err(TableError::Outside(stranger.clone()));
        }
        let seeds: BTreeSet<u64> = self.rows.values().flat_map(BTreeMap::keys).copied().collect();
        let parts = self.architectures().filter(|a| a.len() != space.layers()).cloned();
        let lacks = |architecture: Architecture| {
            let has = self.rows.get(&architecture);
            let lacks: Vec<_> = seeds.iter().filter(|seed| !has.is_some_and(|has| has.contains_key(seed))).collect();
            (has.is_none() || !lacks.is_empty()).then(|| (architecture, lacks.into_iter().copied().collect()))
        };
        let missing: Vec<_> = parts.chain(space.iter()).filter_map(lacks).collect();
        if missing.is_empty() { Ok(()) } else { Err(TableError::Incomplete { missing }) }
    }

    /// Returns a study in which every sequence of the space that is in the table was tried once, with its mean score.
    /// It shows what an aggregator returns if everything is known.
    ///
    /// # Errors
    /// [`TableError::Study`] if the study rejects a score.
    pub fn study(&self, space: &SearchSpace) -> Result<Study, TableError> {
        let mut study = Study::new(space.clone(), Goal::default());
        for architecture in self.architectures().filter(|a| space.contains(a)) {
            let Some(mean) = self.mean(architecture) else { continue };
            let report = Report { standard_error: self.standard_error(architecture), ..Report::score(ACCURACY, mean) };
            let id = study.next_id();
            let architecture = architecture.clone();
            let seed = Seed(0);
            study.apply(Event::Proposed { id, architecture, seed, origin: Origin::Manual })?;
            study.apply(Event::Completed { id, report })?;
        }
        Ok(study)
    }

    fn means(&self, layers: usize) -> impl Iterator<Item = (&Architecture, f64)> {
        self.architectures().filter(move |a| a.len() == layers).filter_map(|a| Some((a, self.mean(a)?)))
    }

    fn no_column(&self, name: &str) -> TableError {
        TableError::NoColumn { name: name.into(), present: self.columns.join(", ") }
    }
}

impl TryFrom<Rows> for Table {
    type Error = TableError;

    fn try_from(plain: Rows) -> Result<Self, TableError> {
        let (score, columns) = plain.columns.split_last().ok_or(TableError::Name(String::new()))?;
        let mut table = Table::new(columns)?;
        if score != SCORE {
            return Err(table.no_column(SCORE));
        }
        table.evaluator = plain.evaluator;
        plain.rows.into_iter().try_for_each(|row| table.insert(row))?;
        Ok(table)
    }
}

impl From<Table> for Rows {
    fn from(table: Table) -> Rows {
        Rows { rows: table.rows().collect(), evaluator: table.evaluator, columns: table.columns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Symbol;

    fn row(text: &str, seed: u64, values: &[f64]) -> Row {
        Row { architecture: text.parse().unwrap(), seed, values: values.to_vec() }
    }

    fn table() -> Table {
        let mut table = Table::new(["recall", "copying"]).unwrap();
        for (text, recall, copying) in
            [("AA", 0.4, 0.2), ("AM", 0.8, 0.6), ("MA", 0.5, 0.1), ("MM", 0.1, 0.1), ("A", 0.9, 0.9)]
        {
            for (seed, noise) in [(3, -0.1), (5, 0.1)] {
                let recall = recall + noise;
                let copying = copying + noise;
                table.insert(row(text, seed, &[recall, copying, (recall + copying) / 2.0])).unwrap();
            }
        }
        table
    }

    fn space() -> SearchSpace {
        SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU], 2).unwrap()
    }

    #[test]
    fn look_ups_speak_of_one_length() {
        let table = table();
        let of = |text: &str| -> Architecture { text.parse().unwrap() };
        let close = |a: Option<f64>, b: f64| assert!(a.is_some_and(|a| (a - b).abs() < 1e-12), "{a:?} {b}");
        close(table.mean(&of("AA")), 0.3);
        close(table.sd(&of("AA")), 0.02f64.sqrt());
        close(table.standard_error(&of("AA")), 0.1);
        assert_eq!(["AM", "AA", "MA", "MM", "A"].map(|text| table.rank(&of(text))), [1, 2, 2, 4, 1].map(Some));
        close(table.regret(&of("MM")), 0.6);
        assert_eq!(table.best(2).map(|(best, _)| best.letters()), Some("AM".into()));
        assert_eq!((table.mean(&of("AAA")), table.rank(&of("F")), table.best(3)), (None, None, None));
        assert_eq!((table.seeds(), table.of_length(1).architectures().count()), (vec![3, 5], 1));
    }

    #[test]
    fn other_scores_give_other_ranks() {
        let table = table();
        let copying = table.rescored(|column| column == "copying").unwrap();
        assert_eq!(copying.rank(&"AA".parse().unwrap()), Some(2));
        assert_eq!(copying.rank(&"MA".parse().unwrap()), Some(3));
        assert_eq!(copying.rescored(|column| column != "score").unwrap(), table);
        assert!(matches!(table.rescored(|_| false), Err(TableError::NoColumn { .. })));
        let table = table.of_length(2);
        let copying = copying.of_length(2);
        let r = table.spearman(&copying).unwrap();
        assert!((0.5..1.0).contains(&r) && table.spearman(&table).is_some_and(|r| (r - 1.0).abs() < 1e-12), "{r}");
        assert_eq!(table.spearman(&table.of_length(9)), None);
        assert_eq!(table.column("recall").unwrap().len(), 8);
        assert!(matches!(table.column("loss"), Err(TableError::NoColumn { .. })));
    }

    #[test]
    fn rows_that_make_no_sense_are_refused_and_change_nothing() {
        let mut table = table();
        let before = table.clone();
        for (row, words) in [
            (row("AM", 3, &[0.0; 3]), "1A+1M with seed 3 is there already"),
            (row("AM", 9, &[0.0; 2]), "4 fields where the header has 5"),
            (row("AM", 9, &[0.0, f64::NAN, 0.0]), "copying is NaN"),
            (row("AM", 9, &[0.0, 0.0, f64::INFINITY]), "score is inf"),
        ] {
            let error = table.insert(row).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(table, before);
        for name in ["", "a,b", "seed", "score", "accuracy", " x", "a\nb"] {
            assert!(matches!(Table::new([name]), Err(TableError::Name(_))), "{name:?}");
        }
        assert!(matches!(Table::new(["x", "x"]), Err(TableError::Name(_))));
    }

    #[test]
    fn what_is_missing_is_listed() {
        let mut table = table();
        table.complete(&space()).unwrap();
        let wider = SearchSpace::uniform([Symbol::ATTENTION, Symbol::SWIGLU, Symbol::MLP], 2).unwrap();
        let error = table.complete(&wider).unwrap_err();
        let TableError::Incomplete { missing } = &error else { panic!("{error}") };
        assert_eq!((missing.len(), missing[0].1.as_slice()), (5, &[3, 5][..]));
        assert!(error.to_string().contains("1A+1F (seed 3, 5)"), "{error}");
        table.insert(row("AM", 4, &[0.0; 3])).unwrap();
        let TableError::Incomplete { missing } = table.complete(&space()).unwrap_err() else { panic!() };
        // The part of a sequence lacks the seed too.
        assert_eq!(missing.iter().map(|(a, _)| a.letters()).collect::<Vec<_>>(), ["A", "AA", "MA", "MM"]);
        table.insert(row("AF", 4, &[0.0; 3])).unwrap();
        assert!(matches!(table.complete(&space()), Err(TableError::Outside(_))));
        let error = Table::new([""; 0]).unwrap().complete(&wider).unwrap_err().to_string();
        assert!(error.contains("missing are AA; AM") && error.contains("and 1 more"), "{error}");
    }

    #[test]
    fn all_that_is_known_is_a_study() {
        let study = table().study(&space()).unwrap();
        assert_eq!((study.observations().count(), study.trials().len()), (4, 4));
        let best = study.best().unwrap();
        assert_eq!((best.trial.architecture.letters(), best.report.standard_error.is_some()), ("AM".into(), true));
    }

    #[test]
    fn other_seeds_are_drawn_from_the_same_architecture() {
        let table = table();
        let other = table.resampled(&mut Seed(1).rng("test", 0));
        assert_ne!(other, table);
        for row in other.rows() {
            assert!(table.scores(&row.architecture).contains(&row.values[2]));
        }
        assert_eq!(other.rows().count(), table.rows().count());
    }

    #[test]
    fn json_round_trips_and_is_checked() {
        let text = serde_json::to_string(&table().measured_by("mad")).unwrap();
        assert_eq!(serde_json::from_str::<Table>(&text).unwrap(), table().measured_by("mad"));
        let bad = text.replace(r#""seed":5"#, r#""seed":3"#);
        assert!(serde_json::from_str::<Table>(&bad).unwrap_err().to_string().contains("is there already"));
        assert!(serde_json::from_str::<Table>(&text.replace("\"score\"", "\"points\"")).is_err());
    }
}
