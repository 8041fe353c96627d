//! What an output is worth: the loss, and the predictions that say where in function space the model stands.

use doodl3::evaluate::protocol::Loss;
use tch::{Device, Kind, Reduction, Tensor};

use crate::probe::Probe;
use crate::torch_error::TorchError;

/// Targets that count for nothing, in PyTorch's cross-entropy.
const IGNORED: i64 = -100;

/// The loss on the batch, and predictions flattened over examples: probabilities of classes for cross-entropy, the
/// output itself for squared errors, nothing where the program returns the loss.
///
/// The loss is the mean over the elements of the target that are neither masked nor ignored.
pub(crate) fn judge(loss: Loss, output: &Tensor, probe: &Probe) -> Result<(f64, Vec<f32>), TorchError> {
    // Sums of many numbers of half precision would be worth nothing.
    let output = &match output.kind() {
        Kind::Half | Kind::BFloat16 => output.f_to_kind(Kind::Float)?,
        _ => output.shallow_clone(),
    };
    let target = || probe.target.as_ref().ok_or_else(|| TorchError::new("there is no target"));
    let (losses, counted, predictions) = match loss {
        Loss::Returned => (output.shallow_clone(), None, Vec::new()),
        Loss::MeanSquaredError => {
            let target = target()?;
            // libtorch would stretch one to the other's shape, and mean something else.
            if target.size() != output.size() {
                return Err(TorchError::new("they must have the same shape"));
            }
            (output.f_mse_loss(target, Reduction::None)?, None, flat(output)?)
        }
        Loss::CrossEntropy => {
            let (logits, target) = classes_last(output, target()?)?;
            let losses =
                logits.f_cross_entropy_loss::<Tensor>(&target, None, Reduction::None, IGNORED, 0.)?;
            let counted = if target.kind() == Kind::Int64 { Some(target.f_ne(IGNORED)?) } else { None };
            (losses, counted, flat(&logits.f_softmax(-1, Kind::Float)?)?)
        }
    };
    let weights = match (&probe.mask, counted) {
        (Some(mask), Some(counted)) => Some(mask.f_reshape(counted.size())?.f_mul(&counted)?),
        (Some(mask), None) => Some(mask.f_reshape(losses.size())?),
        (None, counted) => counted,
    };
    Ok((mean(&losses, weights)?, predictions))
}

fn mean(losses: &Tensor, weights: Option<Tensor>) -> Result<f64, TorchError> {
    let sum = |tensor: &Tensor| tensor.f_sum(losses.kind())?.f_double_value(&[]);
    Ok(match weights {
        None => losses.f_mean(losses.kind())?.f_double_value(&[])?,
        Some(weights) => {
            let weights = weights.f_to_kind(losses.kind())?;
            sum(&losses.f_mul(&weights)?)? / sum(&weights)?
        }
    })
}

/// Logits of shape (examples, classes) and their targets, from (…, classes) as language models have them, or
/// (examples, classes, …) as PyTorch's loss wants them.
fn classes_last(output: &Tensor, target: &Tensor) -> Result<(Tensor, Tensor), TorchError> {
    let (shape, target_shape) = (output.size(), target.size());
    if shape == target_shape {
        // The target holds probabilities.
        return Ok((output.shallow_clone(), target.shallow_clone()));
    }
    if let Some((classes, examples)) = shape.split_last()
        && examples == target_shape
    {
        return Ok((output.f_reshape([-1, *classes])?, target.f_reshape([-1])?));
    }
    if let [examples, classes, rest @ ..] = shape.as_slice()
        && target_shape.split_first() == Some((examples, rest))
    {
        return Ok((output.f_movedim_int(1, -1)?.f_reshape([-1, *classes])?, target.f_reshape([-1])?));
    }
    Err(TorchError::new("the target must have the output's shape without the axis of classes"))
}

fn flat(tensor: &Tensor) -> Result<Vec<f32>, TorchError> {
    let on_cpu = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
    Ok(Vec::try_from(on_cpu.f_reshape([-1])?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(target: Tensor, mask: Option<Tensor>) -> Probe {
        Probe { inputs: Vec::new(), target: Some(target), mask }
    }

    #[test]
    fn classes_may_be_the_last_axis_or_the_second() {
        // (examples, places, classes), and the same as (examples, classes, places).
        let logits = Tensor::arange(2 * 4 * 3, (Kind::Float, Device::Cpu)).sin().view([2, 4, 3]);
        let target = Tensor::from_slice(&[0_i64, 1, 2, IGNORED, 2, 2, 0, 1]).view([2, 4]);
        let last = judge(Loss::CrossEntropy, &logits, &probe(target.copy(), None)).unwrap();
        let second = judge(Loss::CrossEntropy, &logits.transpose(1, 2), &probe(target.copy(), None)).unwrap();
        assert_eq!(last, second);
        let libtorch = logits
            .transpose(1, 2)
            .cross_entropy_loss::<Tensor>(&target, None, Reduction::Mean, IGNORED, 0.)
            .double_value(&[]);
        assert!((last.0 - libtorch).abs() < 1e-6, "{} {libtorch}", last.0);
        assert!((last.1[..3].iter().sum::<f32>() - 1.).abs() < 1e-6);
    }

    #[test]
    fn masked_and_ignored_elements_count_for_nothing() {
        let logits = Tensor::from_slice(&[2_f32, 0., 0., 5., 0., 7.]).view([3, 2]);
        let target = Tensor::from_slice(&[0_i64, 0, IGNORED]);
        let mask = Tensor::from_slice(&[1_f32, 0., 1.]);
        let (loss, _) = judge(Loss::CrossEntropy, &logits, &probe(target, Some(mask))).unwrap();
        assert!((loss - (1. + (-2_f64).exp()).ln()).abs() < 1e-6, "{loss}");
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let output = Tensor::zeros([4, 3], (Kind::Float, Device::Cpu));
        for loss in [Loss::CrossEntropy, Loss::MeanSquaredError] {
            let target = Tensor::zeros([3], (Kind::Int64, Device::Cpu));
            assert!(judge(loss, &output, &probe(target, None)).is_err());
        }
    }
}
