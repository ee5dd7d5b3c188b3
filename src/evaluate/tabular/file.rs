//! A table that grows on disk.

use std::path::Path;

use super::{Row, Table, TableError};
use crate::line_file::LineFile;

/// A table on disk, open for writing. Each row is on disk when [`append`](Self::append) returns, so an interrupted
/// measurement continues where it stopped.
#[derive(Debug)]
pub struct TableFile {
    file: LineFile,
    table: Table,
}

impl TableFile {
    /// Opens the table at `path`, or creates it if it does not exist. `empty` has the columns and the evaluator that
    /// the table must have. An incomplete last row, left by a process that was killed, is removed when the next row is
    /// written.
    ///
    /// # Errors
    /// [`TableError`] if the file cannot be opened, is in use, is not a table, is damaged, lacks the line feed after
    /// its last row, or was measured with another evaluator. The file is then unchanged.
    pub fn open(path: impl AsRef<Path>, empty: Table) -> Result<Self, TableError> {
        let (mut file, bytes) = LineFile::open_with_header(path, &empty.header())?;
        let path = file.path().to_owned();
        let (table, end) = Table::parse(&path, &bytes).map_err(|error| match error {
            TableError::Header { .. } => TableError::NotATable { path: path.clone() },
            error => error,
        })?;
        file.cut(end);
        let parts = |table: &Table| {
            [("evaluator", table.evaluator().unwrap_or_default().to_owned()), ("header", table.columns().join(","))]
        };
        let was_is = parts(&table).into_iter().zip(parts(&empty));
        if let Some(((part, was), (_, is))) = was_is.into_iter().find(|(was, is)| was != is) {
            return Err(TableError::Changed { path, part, was, is });
        }
        Ok(Self { file, table })
    }

    /// Returns the measurements so far.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Adds a measurement.
    ///
    /// # Errors
    /// [`TableError::Row`] if the row does not fit the table, [`TableError::File`] if it cannot be written. The file
    /// then ends as it did before.
    pub fn append(&mut self, row: Row) -> Result<(), TableError> {
        self.table.check(&row)?;
        self.file.append(&row.to_string())?;
        Ok(self.table.insert(row)?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{evaluate::tabular::RowError, line_file::LineFileError};

    fn empty() -> Table {
        Table::new(["recall"]).unwrap().measured_by("mad")
    }

    fn row(seed: u64) -> Row {
        Row { architecture: "AM".parse().unwrap(), seed, values: vec![0.1 * seed as f64, 1.0 / 3.0] }
    }

    #[test]
    fn a_cut_at_any_byte_loses_at_most_the_row_it_falls_in() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/table.csv");
        let mut file = TableFile::open(&path, empty()).unwrap();
        (0..3).for_each(|seed| file.append(row(seed)).unwrap());
        assert!(matches!(file.append(row(1)), Err(TableError::Row(RowError::Duplicate { .. }))));
        assert!(matches!(TableFile::open(&path, empty()), Err(TableError::File(LineFileError::Locked { .. }))));
        let whole = file.table().clone();
        drop(file);
        let bytes = fs::read(&path).unwrap();
        for cut in 0..=bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let complete = bytes[..cut].iter().filter(|&&byte| byte == b'\n').count();
            let opened = TableFile::open(&path, empty());
            if let Err(TableError::Unended { line, .. }) = opened {
                // The last number may be whole or not: nothing is changed.
                assert!(matches!(bytes[cut - 1], b'0'..=b'9' | b'.'), "cut at byte {cut}");
                assert_eq!((line, fs::read(&path).unwrap().as_slice()), (complete + 1, &bytes[..cut]));
                continue;
            }
            let mut file = opened.unwrap();
            assert_eq!(file.table().rows().count(), complete.saturating_sub(2), "cut at byte {cut}");
            for seed in 0..3 {
                if !file.table().contains(&row(seed).architecture, seed) {
                    file.append(row(seed)).unwrap();
                }
            }
            drop(file);
            assert_eq!(Table::read(&path).unwrap(), whole, "cut at byte {cut}");
        }
    }

    #[test]
    fn another_protocol_and_other_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        TableFile::open(&path, empty()).unwrap().append(row(0)).unwrap();
        let before = fs::read(&path).unwrap();
        let open = |table: Table| TableFile::open(&path, table).unwrap_err().to_string();
        let error = open(empty().measured_by("mad, longer"));
        assert!(error.contains("another evaluator: mad, now mad, longer"), "{error}");
        assert!(open(Table::new(["copying"]).unwrap().measured_by("mad")).contains("another header: recall,score"));
        assert_eq!(fs::read(&path).unwrap(), before);
        let good = String::from_utf8(before).unwrap();
        for (text, words) in [
            ("Dear diary\n".to_owned(), "is no table"),
            ("Dear diary".into(), "is no table"),
            ("# Dear diary\n".into(), "is no table"),
            (good.replace('\n', "\r"), "is no table"),
            (good.trim_end().into(), "line 3 of"),
            (format!("{good}Dear diary"), "line 4"),
        ] {
            fs::write(&path, &text).unwrap();
            let error = open(empty());
            assert!(error.contains(words), "{words}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_header_without_its_line_feed_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table.csv");
        fs::write(&path, empty().header()).unwrap();
        TableFile::open(&path, empty()).unwrap().append(row(0)).unwrap();
        assert_eq!(Table::read(&path).unwrap().rows().count(), 1);
    }
}
