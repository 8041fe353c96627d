//! Checkpoints as other programs write them, whole and broken.

use std::path::Path;

use doodl3::checkpoint::{self, CheckpointError, SketchParameters};
use doodl3::engine::Cancel;

/// The bytes of a safetensors file with one tensor for each of `tensors`, in that order.
fn safetensors(tensors: &[(&str, &[usize], &[f32])], metadata: &str) -> Vec<u8> {
    let mut entries = vec![format!("\"__metadata__\":{{{metadata}}}")];
    let mut data = Vec::new();
    for (name, shape, values) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        entries.push(format!(
            "{name:?}:{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{begin},{}]}}",
            data.len()
        ));
    }
    let header = format!("{{{}}}", entries.join(","));
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    file
}

fn summarize(path: &Path) -> Result<checkpoint::Summary, CheckpointError> {
    checkpoint::summarize(path, &SketchParameters::default(), &Cancel::new())
}

#[test]
fn a_small_model_keeps_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("step-30.safetensors");
    let tensors: [(&str, &[usize], &[f32]); 2] =
        [("module.fc.weight", &[2, 2], &[1.0, -2.0, f32::NAN, 0.0]), ("module.fc.bias", &[1], &[0.5])];
    std::fs::write(&path, safetensors(&tensors, "\"epoch\":\"3\"")).unwrap();
    let summary = summarize(&path).unwrap();
    assert!(summary.sketch.exact);
    assert_eq!(summary.sketch.values, [0.5, 1.0, -2.0, 0.0, 0.0]);
    assert_eq!((summary.step, summary.epoch, summary.parameters), (Some(30), Some(3.0), 5));
    let weight = &summary.statistics[1];
    assert_eq!(weight.name, "fc.weight");
    assert_eq!((weight.norm, weight.zeros, weight.nonfinite), (5.0_f64.sqrt(), 1, 1));
    assert_eq!((weight.min, weight.max), (-2.0, 1.0));
}
