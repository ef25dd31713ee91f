//! A memory-mapped safetensors file. The `safetensors` crate checks that the ranges in the header
//! have neither gaps nor overlaps, that each range has the size of its shape, and that the file
//! ends with the last range.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use needle_data::file::open_regular;
use safetensors::tensor::{Dtype, Metadata, SafeTensors};

use crate::error::RuntimeError;

/// The contents of a file.
enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// A safetensors file.
pub struct TensorFile {
    path: PathBuf,
    bytes: Bytes,
    /// Offset of the tensor data.
    start: usize,
    metadata: Metadata,
}

/// One tensor of a file.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    /// Shape of the tensor.
    pub shape: &'a [usize],
    /// Type of the values.
    pub dtype: Dtype,
    /// The values, little-endian.
    pub data: &'a [u8],
}

impl TensorFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read, or is not a safetensors file.
    pub fn open(path: &Path) -> Result<Self, RuntimeError> {
        let file = open_regular(path)?;
        // SAFETY: the map is only read. If another process truncates the file while it is mapped,
        // this process gets a SIGBUS, like every program that maps its weights. Checkpoints and
        // artifacts are replaced by renaming, never written in place.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| RuntimeError::io(path, e))?;
        Self::new(path, Bytes::Mapped(map))
    }

    /// A file with the contents `bytes`; `path` is for messages.
    ///
    /// # Errors
    /// If it is not a safetensors file.
    pub fn from_bytes(path: &Path, bytes: Vec<u8>) -> Result<Self, RuntimeError> {
        Self::new(path, Bytes::Owned(bytes))
    }

    fn new(path: &Path, bytes: Bytes) -> Result<Self, RuntimeError> {
        let (header, metadata) = SafeTensors::read_metadata(&bytes)
            .map_err(|e| RuntimeError::bad_file(path, format!("not a safetensors file: {e}")))?;
        Ok(Self { path: path.to_owned(), bytes, start: header + size_of::<u64>(), metadata })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if the file has no bytes, which a valid file never has.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The value of `key` in `__metadata__`.
    pub fn about(&self, key: &str) -> Option<&str> {
        self.metadata.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.metadata.offset_keys();
        names.sort();
        names
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<TensorRef<'_>> {
        let info = self.metadata.info(name)?;
        let (start, end) = info.data_offsets;
        let data = self.bytes.get(self.start..)?.get(start..end)?;
        Some(TensorRef { shape: &info.shape, dtype: info.dtype, data })
    }

    /// The tensor called `name`.
    ///
    /// # Errors
    /// If there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorRef<'_>, RuntimeError> {
        self.get(name).ok_or_else(|| self.bad(format!("tensor {name} is missing")))
    }

    /// An error about this file.
    pub fn bad(&self, reason: impl Into<String>) -> RuntimeError {
        RuntimeError::bad_file(&self.path, reason)
    }

    /// The values of tensor `name` with `shape`, all finite. A scalar, `[]` in some files, is read
    /// as `[1]`.
    ///
    /// # Errors
    /// If it is missing, has another shape or no float type, or contains a value that is not
    /// finite.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, RuntimeError> {
        let tensor = self.shaped(name, shape)?;
        let values = f32_values(tensor.dtype, tensor.data).map_err(|reason| self.bad(format!("{name}: {reason}")))?;
        finite(name, values).map_err(|reason| self.bad(reason))
    }

    /// The values of float tensor `name` with `shape`, rounded to bf16, as bits.
    ///
    /// # Errors
    /// As for [`TensorFile::floats`], and if a value is beyond the range of bf16.
    pub fn bf16_bits(&self, name: &str, shape: &[usize]) -> Result<Vec<u16>, RuntimeError> {
        let tensor = self.shaped(name, shape)?;
        let bits: Vec<u16> = if tensor.dtype == Dtype::BF16 {
            tensor.data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
        } else {
            self.floats(name, shape)?.into_iter().map(|value| bf16::from_f32(value).to_bits()).collect()
        };
        // A bf16 is not finite if all bits of its exponent are set. The loop has no branches, so
        // that it is vectorized.
        let is_finite = bits.iter().fold(true, |finite, bits| finite & (bits & 0x7F80 != 0x7F80));
        if is_finite {
            return Ok(bits);
        }
        Err(self.bad(format!("{name} contains a value that is not finite or is beyond the range of bf16")))
    }

    /// Tensor `name`; an error if it does not have `shape`.
    fn shaped(&self, name: &str, shape: &[usize]) -> Result<TensorRef<'_>, RuntimeError> {
        let tensor = self.tensor(name)?;
        if tensor.shape == shape || tensor.shape.is_empty() && shape == [1] {
            return Ok(tensor);
        }
        Err(self.bad(format!("{name} has shape {:?}, expected {shape:?}", tensor.shape)))
    }
}

/// Converts the values of a tensor of any float type to f32.
///
/// # Errors
/// If the type is not a float type.
pub fn f32_values(dtype: Dtype, data: &[u8]) -> Result<Vec<f32>, String> {
    Ok(match dtype {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(std::array::from_fn(|i| b[i])) as f32).collect(),
        Dtype::F16 => data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        Dtype::BF16 => data.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
        other => return Err(format!("expected floats, got {other:?}")),
    })
}

/// Checks that all `values` are finite; `what` names them in the message.
///
/// # Errors
/// If one is not: a message with the first such value, and what to do.
pub fn finite(what: &str, values: Vec<f32>) -> Result<Vec<f32>, String> {
    // The loop has no early exit, so that it is vectorized: 26 million values take a few
    // milliseconds.
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(values);
    }
    let found = values.iter().find(|value| !value.is_finite()).copied().unwrap_or_default();
    Err(format!(
        "{what} holds {found}: the training that wrote it went wrong, or the file is damaged; use an earlier checkpoint"
    ))
}
