//! Tables as text: comma-separated values.

use std::{fmt, io, path::Path, str::FromStr};

use super::{Row, RowError, Table, TableError, table::SCORE};
use crate::{
    limits,
    line_file::{ended, written},
};

/// What a comment line says before the fingerprint of the evaluator.
const EVALUATOR: &str = "# evaluator: ";

impl Table {
    /// Reads a table from a file. The beginning of a row behind the last line feed is left out: it was never
    /// acknowledged by whoever wrote it.
    ///
    /// # Errors
    /// [`TableError`] names the line and says what is wrong with it; a last row without its line feed is
    /// [`TableError::Unended`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TableError> {
        let path = path.as_ref();
        let bytes =
            limits::read(path, limits::MAX_LINES).map_err(|source| TableError::Read { path: path.into(), source })?;
        Self::parse(path, &bytes).map(|(table, _)| table)
    }

    /// The table that a file holds, and where its next row goes.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<(Self, u64), TableError> {
        let text = std::str::from_utf8(written(bytes)).map_err(|error| TableError::Read {
            path: path.into(),
            source: io::Error::new(io::ErrorKind::InvalidData, error),
        })?;
        let (rows, last) = text.split_at(ended(text.as_bytes()));
        // Without a header among them the last line is the header, or what is wrong.
        if let Ok(table) = rows.parse::<Table>()
            && !last.is_empty()
        {
            if parse_row(last, table.columns()).is_ok() {
                return Err(TableError::Unended { path: path.into(), line: rows.lines().count() + 1 });
            }
            if is_torn(last, table.columns()) {
                return Ok((table, rows.len() as u64));
            }
        }
        Ok((text.parse()?, text.len() as u64))
    }

    /// The comment, where the evaluator is known, and the names of the columns.
    pub(super) fn header(&self) -> String {
        let comment = self.evaluator().map(|evaluator| format!("{EVALUATOR}{}\n", evaluator.replace('\n', " ")));
        format!("{}architecture,seed,{}", comment.unwrap_or_default(), self.columns().join(","))
    }
}

impl FromStr for Table {
    type Err = TableError;

    /// Comment lines, which begin with `#`, then `architecture,seed,...,score`, then one row per architecture and seed.
    fn from_str(text: &str) -> Result<Self, TableError> {
        let mut lines = (1..).zip(text.lines()).peekable();
        let mut evaluator = None;
        while let Some((_, comment)) = lines.next_if(|(_, line)| line.starts_with('#')) {
            evaluator = comment.strip_prefix(EVALUATOR).map(str::to_owned).or(evaluator);
        }
        let (line, header) = lines.next().unwrap_or((1, ""));
        let columns = header.strip_prefix("architecture,seed,").and_then(|rest| {
            let columns = rest.strip_suffix(SCORE)?;
            if columns.is_empty() { Some(Vec::new()) } else { Some(columns.strip_suffix(',')?.split(',').collect()) }
        });
        let mut table = Table::new(columns.ok_or_else(|| TableError::Header { line, found: header.into() })?)?;
        if let Some(evaluator) = evaluator {
            table = table.measured_by(evaluator);
        }
        for (line, text) in lines {
            let row = parse_row(text, table.columns());
            row.and_then(|row| table.insert(row)).map_err(|source| TableError::Line { line, source })?;
        }
        Ok(table)
    }
}

fn parse_row(text: &str, columns: &[String]) -> Result<Row, RowError> {
    let fields: Vec<_> = text.split(',').map(str::trim).collect();
    let ragged = || RowError::Ragged { found: fields.len(), expected: columns.len() + 2 };
    let [architecture, seed, values @ ..] = fields.as_slice() else { return Err(ragged()) };
    if values.len() != columns.len() {
        return Err(ragged());
    }
    let number = |(column, text): (&String, &&str)| {
        text.parse().map_err(|_| RowError::NotANumber { column: column.clone(), text: (*text).into() })
    };
    Ok(Row {
        architecture: architecture.parse()?,
        seed: seed.parse().map_err(|_| RowError::Seed((*seed).into()))?,
        values: columns.iter().zip(values).map(number).collect::<Result<_, _>>()?,
    })
}

/// Whether this is the beginning of a row: with zeros in the fields that are missing, and behind a number that lacks a
/// digit, it is one.
fn is_torn(text: &str, columns: &[String]) -> bool {
    let missing = (columns.len() + 1).saturating_sub(text.matches(',').count());
    let fields = ",0".repeat(missing);
    [format!("{text}{fields}"), format!("{text}0{fields}")].iter().any(|row| parse_row(row, columns).is_ok())
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.architecture.letters(), self.seed)?;
        self.values.iter().try_for_each(|value| write!(f, ",{value}"))
    }
}

impl fmt::Display for Table {
    /// The text that reads back as the same table, bit for bit.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.header())?;
        self.rows().try_for_each(|row| writeln!(f, "{row}"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::text::causes;

    const GOOD: &str = "# made by hand\n# evaluator: mad {\"a\": 1, \"b\": 2}\narchitecture,seed,recall,score\n\
        AAM,0,0.5,0.25\n2A+1M, 1, 1e-3, 0.5\nMMM,18446744073709551615,0,-1\n";

    #[test]
    fn both_notations_comments_and_spaces_are_read() {
        let table: Table = GOOD.parse().unwrap();
        assert_eq!(table.evaluator(), Some("mad {\"a\": 1, \"b\": 2}"));
        assert_eq!(table.columns(), ["recall", "score"]);
        assert_eq!(table.scores(&"AAM".parse().unwrap()), [0.25, 0.5]);
        assert_eq!(table.to_string().parse::<Table>().unwrap(), table);
        let bare: Table = "architecture,seed,score\r\nA,0,1\r\n".parse().unwrap();
        assert_eq!((bare.columns().len(), bare.evaluator(), bare.rows().count()), (1, None, 1));
    }

    #[test]
    fn what_is_no_table_is_refused_with_the_line() {
        for (from, to, words) in [
            ("AAM,0,0.5,0.25", "AAM,0,0.5", "line 4 is no row of the table: 3 fields where the header has 4"),
            ("AAM,0,0.5,0.25", "AAM", "line 4 is no row of the table: 1 fields"),
            ("AAM,0,0.5,0.25", "", "line 4 is no row of the table: 1 fields"),
            ("AAM,0,0.5,0.25", "AAM,0,0.5,0.25,1", "line 4 is no row of the table: 5 fields"),
            ("AAM,0", "A-M,0", "line 4 is no row of the table: \"A-M\" is not an architecture"),
            ("AAM,0", ",0", "line 4 is no row of the table: an architecture needs"),
            ("AAM,0", "AAM,-1", "line 4 is no row of the table: \"-1\" is no seed"),
            ("1e-3", "good", "line 5 is no row of the table: recall is \"good\", which is no number"),
            ("1e-3", "", "line 5 is no row of the table: recall is \"\""),
            ("-1", "NaN", "line 6 is no row of the table: score is NaN"),
            ("2A+1M, 1", "AAM,0", "line 5 is no row of the table: 2A+1M with seed 0 is there already"),
            ("architecture,", "", "line 3: \"seed,recall,score\" is not the header"),
            (",score", ",mark", "is not the header"),
            ("recall,score", "recall,recall,score", "\"recall\" cannot name a column"),
            ("recall,score", "highscore", "is not the header"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            assert_ne!(text, GOOD, "{from}");
            let error = causes(&text.parse::<Table>().unwrap_err());
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!("".parse::<Table>().is_err());
    }

    #[test]
    fn only_beginnings_of_rows_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        for torn in ["M", "MMA", "MMA,", "MMA,0", "MMA,0,", "MMA,0,-", "MMA,0,0.5", "MMA,0,0.5,", "MMA,0,0.5,-", "\0"] {
            fs::write(&path, format!("{GOOD}{torn}")).unwrap();
            assert_eq!(Table::read(&path).unwrap(), GOOD.parse().unwrap(), "{torn}");
        }
        for (last, words) in [
            ("MMA,0,0.5,0.2", "line 7 of"),
            ("MMA,0,0.5,0.2\rMMA,1,0.5,0.2\r", "line 7 is no row of the table: 7 fields"),
            ("my notes", "line 7 is no row of the table: 1 fields"),
            ("MMA,0,good,0.2", "line 7 is no row of the table: recall is"),
        ] {
            fs::write(&path, format!("{GOOD}{last}")).unwrap();
            let error = causes(&Table::read(&path).unwrap_err());
            assert!(error.contains(words), "{words}: {error}");
        }
        fs::write(&path, [0xff, b'\n']).unwrap();
        assert!(matches!(Table::read(&path), Err(TableError::Read { .. })));
        assert!(matches!(Table::read(folder.path().join("none")), Err(TableError::Read { .. })));
    }

    proptest! {
        #[test]
        fn numbers_survive(values in proptest::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 3)) {
            let mut table = Table::new(["a", "b c"]).unwrap();
            table.insert(Row { architecture: "AM".parse().unwrap(), seed: 0, values }).unwrap();
            prop_assert_eq!(table.to_string().parse::<Table>().unwrap(), table);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in ".{0,40}") {
            let _ = text.parse::<Table>();
            let _ = format!("architecture,seed,score\n{text}").parse::<Table>();
        }
    }
}
