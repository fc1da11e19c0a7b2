//! The GGUF container, versions 2 and 3: metadata, tensor table, tensor data.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every count and length is compared
//! with what is left of the file before anything is reserved for it, so a damaged or hostile header costs
//! at most memory in proportion to the file's real size, and never a panic.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use candle_core::quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml};

use super::LoadError;

/// Tensors are aligned to this many bytes unless the metadata says otherwise.
const ALIGNMENT_DEFAULT: u64 = 32;
/// The format's own bound on dimensions of a tensor.
const DIMENSIONS_MAX: u32 = 4;
/// Longest string: chat templates are the longest ones in real files, some tens of kilobytes.
const STRING_LEN_MAX: u64 = 1 << 24;
/// Tensor types this engine reads, for messages.
const SUPPORTED_TYPES: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K";

/// A metadata value. Integers of every width are one kind; a reader asks for the range it needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(i128),
    Float(f64),
    Bool(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Texts(Vec<String>),
    /// An array of a kind no key of ours uses; skipped.
    Other,
}

/// A row of the tensor table.
#[derive(Debug)]
struct TensorInfo {
    /// Outermost dimension first.
    dims: Vec<usize>,
    ggml_type: u32,
    /// From the start of the tensor data.
    offset: u64,
}

/// The header of a GGUF file.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
    data_start: u64,
    file_len: u64,
}

impl Header {
    /// Reads the header from the start of a file of `file_len` bytes.
    pub(super) fn read(source: &mut impl Read, file_len: u64) -> Result<Self, LoadError> {
        let mut input = Input { source, position: 0, file_len };
        let mark: [u8; 4] = input.array("the file mark")?;
        if mark != *b"GGUF" {
            return Err(LoadError::NotGguf { found: mark });
        }
        let version = input.u32("the version")?;
        if !matches!(version, 2 | 3) {
            return Err(LoadError::GgufVersion { found: version });
        }
        // Smallest rows: an empty name, its type and one byte; an empty name, no dimension, type and offset.
        let tensor_count = input.count("the tensor table", 8 + 4 + 4 + 8)?;
        let metadata_count = input.count("the metadata table", 8 + 4 + 1)?;
        let mut metadata = HashMap::new();
        for _ in 0..metadata_count {
            let key = input.text("a metadata key")?;
            let kind = input.u32("a metadata type")?;
            metadata.insert(key, input.value(kind)?);
        }
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let name = input.text("a tensor name")?;
            tensors.insert(name, input.tensor_info()?);
        }
        let alignment = match metadata.get("general.alignment") {
            Some(&Value::Integer(alignment)) => u64::try_from(alignment).unwrap_or(0),
            _ => ALIGNMENT_DEFAULT,
        };
        if !alignment.is_power_of_two() || alignment > 1 << 20 {
            return Err(LoadError::Malformed { what: "general.alignment", found: alignment });
        }
        let data_start = input.position.next_multiple_of(alignment);
        Ok(Self { metadata, tensors, data_start, file_len })
    }

    /// Bytes of the file that hold tensors.
    pub(super) fn data_len(&self) -> u64 {
        self.file_len.saturating_sub(self.data_start)
    }

    /// The dimensions of a tensor, outermost first.
    pub(super) fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|info| info.dims.as_slice())
    }

    /// Reads a tensor, or `None` if the file has none of that name.
    pub(super) fn tensor(
        &self,
        source: &mut (impl Read + Seek),
        name: &str,
    ) -> Result<Option<QTensor>, LoadError> {
        let Some(info) = self.tensors.get(name) else { return Ok(None) };
        let dtype = ggml_dtype(info.ggml_type).ok_or_else(|| LoadError::TensorType {
            name: name.to_owned(),
            found: format!("GGML type {}", info.ggml_type),
            supported: SUPPORTED_TYPES,
        })?;
        let elements = info.dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim as u64));
        let block = dtype.block_size() as u64;
        let len = elements
            .filter(|elements| elements.is_multiple_of(block))
            .and_then(|elements| (elements / block).checked_mul(dtype.type_size() as u64));
        let len = len.ok_or(LoadError::Malformed { what: "a tensor's element count", found: block })?;
        let start = self.data_start.saturating_add(info.offset);
        let available = self.file_len.saturating_sub(start);
        if len > available {
            return Err(LoadError::Truncated { what: "a tensor", needed: len, available });
        }
        source.seek(SeekFrom::Start(start)).map_err(truncated("a tensor", len, available))?;
        // Not larger than the file, so the conversion cannot fail on a machine that could hold the tensor.
        let len = usize::try_from(len)
            .map_err(|_too_large| LoadError::Malformed { what: "a tensor's size", found: len })?;
        let mut data = vec![0; len];
        source.read_exact(&mut data).map_err(truncated("a tensor", len as u64, available))?;
        let tensor = qtensor_from_ggml(dtype, &data, info.dims.clone(), &candle_core::Device::Cpu);
        tensor.map(Some).map_err(LoadError::compute)
    }
}

/// The tensor types that the tensor library computes with, by their number in the format.
fn ggml_dtype(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// A reader that knows how much of the file is left.
struct Input<'a, R> {
    source: &'a mut R,
    position: u64,
    file_len: u64,
}

impl<R: Read> Input<'_, R> {
    fn available(&self) -> u64 {
        self.file_len.saturating_sub(self.position)
    }

    /// Refuses `needed` bytes that the file does not have.
    fn require(&self, what: &'static str, needed: u64) -> Result<(), LoadError> {
        let available = self.available();
        if needed > available { Err(LoadError::Truncated { what, needed, available }) } else { Ok(()) }
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], LoadError> {
        self.require(what, N as u64)?;
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(truncated(what, N as u64, 0))?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, LoadError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, LoadError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of rows that take at least `row_len` bytes each.
    fn count(&mut self, what: &'static str, row_len: u64) -> Result<u64, LoadError> {
        let count = self.u64(what)?;
        self.require(what, count.saturating_mul(row_len))?;
        Ok(count)
    }

    fn text(&mut self, what: &'static str) -> Result<String, LoadError> {
        let len = self.count(what, 1)?;
        if len > STRING_LEN_MAX {
            return Err(LoadError::Malformed { what: "the length of a string", found: len });
        }
        let too_long = |_| LoadError::Malformed { what: "the length of a string", found: len };
        let mut bytes = vec![0; usize::try_from(len).map_err(too_long)?];
        self.source.read_exact(&mut bytes).map_err(truncated(what, len, 0))?;
        self.position += len;
        // Some converters count a C string's end as part of it.
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(end);
        // Real vocabularies hold pieces that are no UTF-8; they lose only their readable name.
        Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
    }

    fn value(&mut self, kind: u32) -> Result<Value, LoadError> {
        match kind {
            8 => Ok(Value::Text(self.text("a metadata string")?)),
            9 => self.array_value(),
            _ => self.scalar(kind),
        }
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, LoadError> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.array(WHAT)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(WHAT)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(WHAT)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(WHAT)?).into()),
            4 => Value::Integer(self.u32(WHAT)?.into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(WHAT)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(WHAT)?).into()),
            7 => Value::Bool(self.array::<1>(WHAT)? != [0]),
            10 => Value::Integer(self.u64(WHAT)?.into()),
            11 => Value::Integer(i64::from_le_bytes(self.array(WHAT)?).into()),
            12 => Value::Float(f64::from_le_bytes(self.array(WHAT)?)),
            _ => return Err(LoadError::Malformed { what: "a metadata type", found: kind.into() }),
        })
    }

    fn array_value(&mut self) -> Result<Value, LoadError> {
        const WHAT: &str = "a metadata array";
        let kind = self.u32("the type of a metadata array")?;
        match kind {
            8 => {
                let count = self.count(WHAT, 8)?;
                let texts = (0..count).map(|_| self.text(WHAT)).collect::<Result<_, _>>()?;
                Ok(Value::Texts(texts))
            }
            4 | 5 => {
                let count = self.count(WHAT, 4)?;
                let read = |input: &mut Self| -> Result<i64, LoadError> {
                    let bytes = input.array(WHAT)?;
                    Ok(if kind == 4 {
                        u32::from_le_bytes(bytes).into()
                    } else {
                        i32::from_le_bytes(bytes).into()
                    })
                };
                Ok(Value::Integers((0..count).map(|_| read(self)).collect::<Result<_, _>>()?))
            }
            6 => {
                let count = self.count(WHAT, 4)?;
                let read = |input: &mut Self| Ok(f32::from_le_bytes(input.array(WHAT)?));
                Ok(Value::Floats((0..count).map(|_| read(self)).collect::<Result<_, LoadError>>()?))
            }
            0..=3 | 7 | 10..=12 => {
                let width = match kind {
                    0 | 1 | 7 => 1,
                    2 | 3 => 2,
                    _ => 8,
                };
                let count = self.count(WHAT, width)?;
                self.skip(WHAT, count.saturating_mul(width))?;
                Ok(Value::Other)
            }
            // Arrays of arrays: the format allows them, no key of a supported model uses them.
            _ => Err(LoadError::Malformed { what: "the type of a metadata array", found: kind.into() }),
        }
    }

    fn skip(&mut self, what: &'static str, len: u64) -> Result<(), LoadError> {
        self.require(what, len)?;
        let skipped = std::io::copy(&mut self.source.by_ref().take(len), &mut std::io::sink());
        if skipped.map_err(truncated(what, len, 0))? != len {
            return Err(LoadError::Truncated { what, needed: len, available: 0 });
        }
        self.position += len;
        Ok(())
    }

    fn tensor_info(&mut self) -> Result<TensorInfo, LoadError> {
        let count = self.u32("a tensor's dimensions")?;
        if count == 0 || count > DIMENSIONS_MAX {
            return Err(LoadError::Malformed {
                what: "the number of a tensor's dimensions",
                found: count.into(),
            });
        }
        let mut dims = Vec::new();
        for _ in 0..count {
            let dim = self.u64("a tensor's dimensions")?;
            let too_large = |_| LoadError::Malformed { what: "a tensor's dimension", found: dim };
            dims.push(usize::try_from(dim).map_err(too_large)?);
        }
        // The file counts from the innermost dimension.
        dims.reverse();
        Ok(TensorInfo {
            dims,
            ggml_type: self.u32("a tensor's type")?,
            offset: self.u64("a tensor's offset")?,
        })
    }
}

/// A read that failed although the file's length promised more: the file is being changed under us.
fn truncated(what: &'static str, needed: u64, available: u64) -> impl FnOnce(std::io::Error) -> LoadError {
    move |_| LoadError::Truncated { what, needed, available }
}
