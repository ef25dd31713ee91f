//! Rows of a parquet file: only the needed columns, row group by row group.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Type as PhysicalType;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::reader::{FileReader, SerializedFileReader};

use super::{Content, MAX_ROW_BYTES, Position, Row};
use crate::error::{DataError, Place};
use crate::file;
use crate::text::record::COLUMNS;

/// Rows decoded at a time.
const ROWS_AT_ONCE: usize = 256;

/// The rows of a parquet file with the columns of [`COLUMNS`].
pub struct ParquetRows {
    path: PathBuf,
    reader: Arc<SerializedFileReader<File>>,
    /// Index in the file and name of each column that is read.
    columns: Vec<(usize, &'static str)>,
    row_group: usize,
    readers: Vec<ColumnReaderImpl<ByteArrayType>>,
    /// Rows read ahead, last first.
    ready: Vec<Vec<(&'static str, Option<ByteArray>)>>,
    row: u64,
}

impl ParquetRows {
    /// Opens `path` at row `position.row`.
    ///
    /// # Errors
    /// If the file is not parquet, is damaged, or lacks the columns.
    pub fn open(path: &Path, position: Position) -> Result<Self, DataError> {
        let file = file::open_regular(path)?;
        let reader = SerializedFileReader::new(file).map_err(|e| bad(path, e))?;
        let schema = reader.metadata().file_metadata().schema_descr_ptr();
        let find = |name: &str| (0..schema.num_columns()).find(|&i| schema.column(i).path().string() == name);
        let columns = COLUMNS
            .iter()
            .find_map(|names| names.iter().map(|name| Some((find(name)?, *name))).collect::<Option<Vec<_>>>());
        let Some(columns) = columns else {
            let there: Vec<String> = (0..schema.num_columns()).map(|i| schema.column(i).path().string()).collect();
            let wanted: Vec<String> = COLUMNS.iter().map(|names| names.join(", ")).collect();
            let reason = format!("has the columns {}; expected {}", there.join(", "), wanted.join("; or "));
            return Err(bad(path, reason));
        };
        for (index, name) in &columns {
            let column = schema.column(*index);
            if column.physical_type() != PhysicalType::BYTE_ARRAY
                || column.max_rep_level() > 0
                || column.max_def_level() > 1
            {
                return Err(bad(path, format!("column {name} does not hold strings")));
            }
        }
        let mut rows = Self {
            path: path.to_owned(),
            reader: Arc::new(reader),
            columns,
            row_group: 0,
            readers: Vec::new(),
            ready: Vec::new(),
            row: 0,
        };
        rows.skip_to(position.row)?;
        Ok(rows)
    }

    /// Position of the next row.
    pub fn position(&self) -> Position {
        Position { row: self.row, byte: 0 }
    }

    fn skip_to(&mut self, row: u64) -> Result<(), DataError> {
        let groups = self.reader.metadata().row_groups();
        while let Some(group) = groups.get(self.row_group)
            && self.row + group.num_rows().max(0) as u64 <= row
        {
            self.row += group.num_rows().max(0) as u64;
            self.row_group += 1;
        }
        if row > self.row {
            self.open_row_group()?;
            let skip = (row - self.row) as usize;
            for reader in &mut self.readers {
                let skipped = reader.skip_records(skip).map_err(|e| bad(&self.path, e))?;
                if skipped != skip {
                    return Err(bad(&self.path, format!("ends before row {row}, where reading should resume")));
                }
            }
            self.row = row;
        }
        Ok(())
    }

    /// Opens the columns of the next row group, and counts it as begun.
    fn open_row_group(&mut self) -> Result<(), DataError> {
        if self.row_group >= self.reader.num_row_groups() {
            return Ok(());
        }
        let group = self.reader.get_row_group(self.row_group).map_err(|e| bad(&self.path, e))?;
        self.readers = self
            .columns
            .iter()
            .map(|(index, name)| match group.get_column_reader(*index).map_err(|e| bad(&self.path, e))? {
                ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
                _ => Err(bad(&self.path, format!("column {name} does not hold strings"))),
            })
            .collect::<Result<_, DataError>>()?;
        self.row_group += 1;
        Ok(())
    }

    /// The next row.
    ///
    /// # Errors
    /// If the file cannot be read further.
    pub fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        while self.ready.is_empty() {
            if self.readers.is_empty() {
                if self.row_group >= self.reader.num_row_groups() {
                    let promised = self.reader.metadata().file_metadata().num_rows().max(0) as u64;
                    if self.row != promised {
                        return Err(bad(
                            &self.path,
                            format!("holds {} rows, but its footer says {promised}", self.row),
                        ));
                    }
                    return if promised > 0 { Ok(None) } else { Err(DataError::Empty(self.path.clone())) };
                }
                self.open_row_group()?;
            }
            self.read_ahead()?;
        }
        let row = self.ready.pop().unwrap_or_default();
        self.row += 1;
        let place = Place { file: self.path.clone(), line: self.row as usize };
        let length: usize = row.iter().filter_map(|(_, value)| value.as_ref()).map(ByteArray::len).sum();
        if length > MAX_ROW_BYTES {
            return Ok(Some(Row { place, content: Content::TooLong(length) }));
        }
        let columns = row.into_iter().filter_map(|(name, value)| Some((name, value?.data().to_vec()))).collect();
        Ok(Some(Row { place, content: Content::Columns(columns) }))
    }

    fn read_ahead(&mut self) -> Result<(), DataError> {
        let mut rows: Vec<Vec<(&'static str, Option<ByteArray>)>> = Vec::new();
        for (column, (reader, (_, name))) in self.readers.iter_mut().zip(&self.columns).enumerate() {
            let (mut values, mut levels) = (Vec::new(), Vec::new());
            let (records, _, _) = reader
                .read_records(ROWS_AT_ONCE, Some(&mut levels), None, &mut values)
                .map_err(|e| bad(&self.path, e))?;
            if column == 0 {
                rows = vec![Vec::new(); records];
            } else if rows.len() != records {
                return Err(bad(&self.path, format!("column {name} has a different number of rows than the others")));
            }
            // A required column has no levels: none of its values is null.
            let is_there = |i: usize| levels.get(i).is_none_or(|level| *level > 0);
            let mut values = values.into_iter();
            for (i, row) in rows.iter_mut().enumerate() {
                row.push((name, if is_there(i) { values.next() } else { None }));
            }
        }
        if rows.is_empty() {
            self.readers.clear();
        }
        rows.reverse();
        self.ready = rows;
        Ok(())
    }
}

fn bad(path: &Path, reason: impl ToString) -> DataError {
    DataError::io(path, std::io::Error::other(format!("parquet: {}", reason.to_string())))
}
