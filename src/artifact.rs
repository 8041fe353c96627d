//! What doodl3 hands out: named byte strings, the same names in every sink.

/// One file for people or programs: a report, a picture, a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// File name below the sink's `doodl3/` folder, such as `report.html` or `morse_graph.svg`.
    pub name: String,
    /// Media type, such as `text/html; charset=utf-8`.
    pub media_type: &'static str,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Artifact {
    /// An artifact of text.
    pub fn text(name: impl Into<String>, media_type: &'static str, text: impl Into<String>) -> Self {
        Self { name: name.into(), media_type, bytes: text.into().into_bytes() }
    }
}
