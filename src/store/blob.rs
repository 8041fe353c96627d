//! Numbers as bytes, little endian.

use serde::{Deserialize, Serialize};

use super::StoreError;
use crate::checkpoint::TensorStatistics;

/// Name and shape of a tensor.
type Tensor = (String, Vec<usize>);

/// What the numbers of a checkpoint stand for; shared by all checkpoints of a model.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Layout {
    /// Names and shapes of the tensors, in the order of their statistics.
    pub(super) tensors: Vec<Tensor>,
    /// Tensor and element of each single weight that is kept.
    pub(super) coordinates: Vec<(usize, usize)>,
}

pub(super) fn floats_to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn floats_from_bytes(bytes: &[u8]) -> Result<Vec<f32>, StoreError> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes are no f32 numbers", bytes.len())));
    }
    Ok(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect())
}

/// Seven numbers of 8 bytes, the sketch's length in 4 bytes, and the sketch, for each tensor. Names and shapes are in the
/// layout, which many checkpoints share.
pub(super) fn statistics_to_bytes(statistics: &[TensorStatistics]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(statistics.iter().map(|s| 60 + 4 * s.sketch.len()).sum());
    for s in statistics {
        for value in [s.norm, s.mean, s.variance, s.min, s.max] {
            bytes.extend(value.to_le_bytes());
        }
        bytes.extend(s.zeros.to_le_bytes());
        bytes.extend(s.nonfinite.to_le_bytes());
        bytes.extend((s.sketch.len() as u32).to_le_bytes());
        bytes.extend(floats_to_bytes(&s.sketch));
    }
    bytes
}

pub(super) fn statistics_from_bytes(
    tensors: Vec<Tensor>,
    bytes: &[u8],
) -> Result<Vec<TensorStatistics>, StoreError> {
    let mut bytes = bytes;
    let statistics = tensors
        .into_iter()
        .map(|(name, shape)| {
            Ok(TensorStatistics {
                name,
                shape,
                norm: f64::from_le_bytes(take(&mut bytes)?),
                mean: f64::from_le_bytes(take(&mut bytes)?),
                variance: f64::from_le_bytes(take(&mut bytes)?),
                min: f64::from_le_bytes(take(&mut bytes)?),
                max: f64::from_le_bytes(take(&mut bytes)?),
                zeros: u64::from_le_bytes(take(&mut bytes)?),
                nonfinite: u64::from_le_bytes(take(&mut bytes)?),
                sketch: {
                    let length = 4 * u32::from_le_bytes(take(&mut bytes)?) as usize;
                    let (sketch, rest) =
                        bytes.split_at_checked(length).ok_or_else(|| damaged("it is cut short".into()))?;
                    bytes = rest;
                    floats_from_bytes(sketch)?
                },
            })
        })
        .collect::<Result<_, StoreError>>()?;
    if bytes.is_empty() { Ok(statistics) } else { Err(damaged(format!("{} bytes too many", bytes.len()))) }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], StoreError> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| damaged("it is cut short".into()))?;
    *bytes = rest;
    Ok(*head)
}

fn damaged(reason: String) -> StoreError {
    StoreError::Damaged { what: "row of numbers", reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, sketch: Vec<f32>) -> TensorStatistics {
        TensorStatistics {
            name: name.into(),
            shape: vec![2, 3],
            norm: 1.5,
            mean: -0.25,
            variance: 4.0,
            min: -2.0,
            max: f64::MAX,
            zeros: 3,
            nonfinite: u64::MAX,
            sketch,
        }
    }

    #[test]
    fn statistics_come_back_as_they_were() {
        let statistics = vec![tensor("a", vec![1.0, f32::MIN_POSITIVE]), tensor("b", vec![])];
        let layout: Vec<Tensor> = statistics.iter().map(|s| (s.name.clone(), s.shape.clone())).collect();
        let bytes = statistics_to_bytes(&statistics);
        assert_eq!(statistics_from_bytes(layout.clone(), &bytes).unwrap(), statistics);
        assert!(statistics_from_bytes(layout.clone(), &bytes[..bytes.len() - 1]).is_err());
        assert!(statistics_from_bytes(layout[..1].to_vec(), &bytes).is_err());
    }
}
