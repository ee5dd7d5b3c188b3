//! What can be wrong with a table.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::{
    line_file::LineFileError,
    space::{Architecture, ParseError},
    study::StudyError,
};

/// A table that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TableError {
    /// The file cannot be read.
    #[error("cannot read the table {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
    /// The file cannot be opened for writing, or not be written.
    #[error(transparent)]
    File(#[from] LineFileError),
    /// Some other file, which is left alone.
    #[error("{} is no table: it does not begin with architecture,seed,...,score; choose another path", .path.display())]
    NotATable {
        /// The file.
        path: PathBuf,
    },
    /// A last row without its line feed. A crash may have cut its last number short, or an editor has taken the line
    /// feed away: nobody can tell.
    #[error(
        "line {line} of {} has no line feed, so that its last number may be cut short: add the line feed where the row \
        is whole, or else delete the row",
        .path.display()
    )]
    Unended {
        /// The file.
        path: PathBuf,
        /// Number of the line, from one.
        line: usize,
    },
    /// No column names where they are due.
    #[error("line {line}: {found:?} is not the header of a table; it reads architecture,seed,...,score")]
    Header {
        /// Number of the line, from one.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// A name that no column can have.
    #[error(
        "{0:?} cannot name a column: names are unique, not empty, without commas, quotes and line feeds, and none of \
        architecture, seed, score, accuracy"
    )]
    Name(String),
    /// A row that makes no sense.
    #[error("line {line} is no row of the table")]
    Line {
        /// Number of the line, from one.
        line: usize,
        /// What is wrong.
        source: RowError,
    },
    /// A row that cannot be added.
    #[error(transparent)]
    Row(#[from] RowError),
    /// A column that is not there.
    #[error("the table has no column {name:?}, only [{present}]")]
    NoColumn {
        /// What was asked for.
        name: String,
        /// The names that are there.
        present: String,
    },
    /// The table was measured in another way.
    #[error("the table {} was measured with another {part}: {was}, now {is}; choose another file", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What differs.
        part: &'static str,
        /// What the file says.
        was: String,
        /// What is asked for.
        is: String,
    },
    /// Measurements are missing.
    #[error("the table is incomplete; missing are {}", list(.missing))]
    Incomplete {
        /// Architectures, each with the seeds that others have and it lacks; without seeds where nobody has any.
        missing: Vec<(Architecture, Vec<u64>)>,
    },
    /// An architecture that the space cannot contain, in whole or in part.
    #[error("the table holds {0}, which is no sequence of the search space and no part of one")]
    Outside(Architecture),
    /// The scores make no study.
    #[error(transparent)]
    Study(#[from] StudyError),
}

/// A row that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum RowError {
    /// Too many or too few fields.
    #[error("{found} fields where the header has {expected}")]
    Ragged {
        /// Fields of the row.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// No architecture.
    #[error(transparent)]
    Architecture(#[from] ParseError),
    /// No seed.
    #[error("{0:?} is no seed: seeds are whole numbers from 0")]
    Seed(String),
    /// No number.
    #[error("{column} is {text:?}, which is no number")]
    NotANumber {
        /// Which column.
        column: String,
        /// What stands there.
        text: String,
    },
    /// NaN or infinite.
    #[error("{column} is {value}, not a finite number")]
    NotFinite {
        /// Which column.
        column: String,
        /// The value.
        value: f64,
    },
    /// The same measurement twice.
    #[error("{architecture} with seed {seed} is there already: each is measured once")]
    Duplicate {
        /// The architecture.
        architecture: Architecture,
        /// The seed.
        seed: u64,
    },
}

/// The first few, and how many more there are.
fn list(missing: &[(Architecture, Vec<u64>)]) -> String {
    const SHOWN: usize = 8;
    let entry = |(architecture, seeds): &(Architecture, Vec<u64>)| {
        let seeds: Vec<_> = seeds.iter().map(u64::to_string).collect();
        if seeds.is_empty() { architecture.letters() } else { format!("{architecture} (seed {})", seeds.join(", ")) }
    };
    let mut text = missing.iter().take(SHOWN).map(entry).collect::<Vec<_>>().join("; ");
    if missing.len() > SHOWN {
        text += &format!("; and {} more", missing.len() - SHOWN);
    }
    text
}
