//! libtorch's errors, in words for people.

use tch::TchError;

/// The first sentence of what libtorch has to say, without the stack of C++ functions and the source code of modules.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct TorchError(String);

impl TorchError {
    /// An objection of our own, before libtorch is asked.
    pub(crate) fn new(words: &str) -> Self {
        Self(words.into())
    }
}

impl From<TchError> for TorchError {
    fn from(error: TchError) -> Self {
        let text = match error {
            TchError::Torch(text) => text,
            other => other.to_string(),
        };
        let text = text.split("Exception raised from").next().unwrap_or_default();
        // TorchScript shows the program's source first and the reason in the last line.
        let reason = if text.contains("Traceback of TorchScript") {
            text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default()
        } else {
            text
        };
        let words = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        // Failed checks, such as those for memory, show themselves first and the reason in the second sentence.
        let words = match words.split_once(". ") {
            Some((check, reason)) if check.starts_with("[enforce fail") => reason,
            _ => &words,
        };
        let sentence = words.split(". ").next().unwrap_or_default();
        Self(sentence.trim_end_matches('.').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_kept_and_the_rest_is_not() {
        let plain = "mat1 and mat2 shapes cannot be multiplied (75x4 and 3x2)\nException raised from meta at x.cpp:1\n#0";
        let script = "The following operation failed in the TorchScript interpreter.\nTraceback of TorchScript (most \
                      recent call last):\n  File \"x.py\", line 3, in forward\n    return a @ b\n           ~~~~ <--- \
                      HERE\nRuntimeError: size mismatch.\n";
        let check = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to \
                     allocate 8 bytes. Error code 12 (Cannot allocate memory)\n";
        let words = |text: &str| TorchError::from(TchError::Torch(text.into())).to_string();
        assert_eq!(words(plain), "mat1 and mat2 shapes cannot be multiplied (75x4 and 3x2)");
        assert_eq!(words(script), "RuntimeError: size mismatch");
        assert_eq!(words(check), "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes");
    }
}
