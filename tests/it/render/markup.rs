//! A small, strict reader of mark-up: what it accepts is well-formed for XML parsers and for browsers alike.

use std::fmt::Write;

/// Elements that HTML writes without an end tag.
const VOID: [&str; 3] = ["meta", "br", "hr"];

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Markup {
    /// Each element's name and attributes, in order.
    pub(super) elements: Vec<(String, Vec<(String, String)>)>,
    /// The text outside tags and style sheets, entities replaced, white space folded.
    pub(super) text: String,
}

impl Markup {
    pub(super) fn parse(source: &str) -> Result<Self, String> {
        let mut markup = Self::default();
        let mut open: Vec<String> = Vec::new();
        let mut rest = source.strip_prefix("<!doctype html>").unwrap_or(source);
        let mut text = String::new();
        while !rest.is_empty() {
            let Some(tag) = rest.strip_prefix('<') else {
                let end = rest.find('<').unwrap_or(rest.len());
                if rest[..end].contains('>') {
                    return Err(format!("a bare > in {:?}", &rest[..end]));
                }
                let _ = write!(text, "{}", plain(&rest[..end])?);
                rest = &rest[end..];
                continue;
            };
            if let Some(name) = tag.strip_prefix('/') {
                let end = name.find('>').ok_or("an end tag without end")?;
                if open.pop().as_deref() != Some(&name[..end]) {
                    return Err(format!("</{}> closes what is not open", &name[..end]));
                }
                text.push(' ');
                rest = &name[end + 1..];
                continue;
            }
            let name_end = tag.find([' ', '>', '/']).ok_or("a tag without end")?;
            let name = tag[..name_end].to_owned();
            let mut attributes: Vec<(String, String)> = Vec::new();
            let mut inner = tag[name_end..].trim_start();
            while !inner.starts_with(['>', '/']) {
                let (attribute, after) =
                    inner.split_once("=\"").ok_or(format!("an attribute in <{name} {inner:.40}"))?;
                if !attribute.chars().all(|c| c.is_ascii_alphanumeric() || "-:".contains(c)) {
                    return Err(format!("the name {attribute:?}"));
                }
                let (value, after) = after.split_once('"').ok_or("a value without end")?;
                if value.contains('<') || attributes.iter().any(|(known, _)| known == attribute) {
                    return Err(format!("{attribute}={value:?} in <{name}>"));
                }
                attributes.push((attribute.to_owned(), plain(value)?));
                inner = after.trim_start();
            }
            markup.elements.push((name.clone(), attributes));
            if let Some(after) = inner.strip_prefix("/>") {
                rest = after;
                continue;
            }
            rest = inner.strip_prefix('>').ok_or("a stray slash")?;
            if name == "style" {
                let end = rest.find("</style>").ok_or("a style sheet without end")?;
                if rest[..end].contains(['<', '&']) {
                    return Err("a style sheet that is not for XML".into());
                }
                rest = &rest[end..];
            }
            if !VOID.contains(&name.as_str()) {
                open.push(name);
            }
        }
        markup.text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if open.is_empty() { Ok(markup) } else { Err(format!("still open: {open:?}")) }
    }

    /// All values of an attribute.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let all = self.elements.iter().flat_map(|(_, attributes)| attributes);
        all.filter(move |(attribute, _)| attribute == name).map(|(_, value)| value.as_str())
    }
}

/// Text with its entities replaced.
fn plain(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, rest) = part.split_once(';').ok_or(format!("a bare & before {part:?}"))?;
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            other => return Err(format!("the entity {other}")),
        });
        plain.push_str(rest);
    }
    Ok(plain)
}
