//! A small writer of SVG: what is written is escaped, balanced and the same on every machine.
//!
//! Pictures name colours by class, never by value, and the classes take them from CSS variables. So one drawing serves
//! light and dark, inside the report (whose style sheet defines them) and as a file (which carries its own).

use std::fmt::Write;

use super::palette;

/// Styles of what is in the pictures; for text in XML, so without `<` and `&`.
const STYLE: &str = include_str!("templates/picture.css");

/// A finished drawing.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// Width and height in CSS pixels at its natural size.
    pub(super) size: (f64, f64),
    /// What it shows, for those who do not see it.
    label: String,
    body: String,
}

impl Picture {
    /// As an element of an HTML page that has [`style_sheet`] among its styles.
    pub(super) fn inline(&self) -> String {
        let Self { size: (width, height), label, body } = self;
        format!(
            r#"<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{label}">{body}</svg>"#,
            w = number(*width),
            h = number(*height),
            label = escape(label),
        )
    }

    /// As a file.
    pub(super) fn file(&self) -> String {
        self.with_styles(&style_sheet())
    }

    /// As a file with the colours on light ground by value, for programs that know less of CSS than browsers do: no
    /// variables, no media queries.
    pub(super) fn plain(&self) -> String {
        self.with_styles(&palette::on_light_ground(&(palette::classes() + STYLE)))
    }

    fn with_styles(&self, style: &str) -> String {
        let Self { size: (width, height), label, body } = self;
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" "#,
                r#"aria-label="{label}"><style>{style}</style><rect class="page" width="{w}" height="{h}"/>{body}</svg>"#,
                "\n"
            ),
            w = number(*width),
            h = number(*height),
            label = escape(label),
            style = style,
            body = body,
        )
    }
}

/// The styles that pictures need: colours for light and dark, then classes.
pub(super) fn style_sheet() -> String {
    palette::variables() + &palette::classes() + STYLE
}

/// A value of an attribute.
pub(super) trait Value {
    /// Appends it, escaped.
    fn write(&self, text: &mut String);
}

impl Value for f64 {
    fn write(&self, text: &mut String) {
        text.push_str(&number(*self));
    }
}

impl Value for &str {
    fn write(&self, text: &mut String) {
        text.push_str(&escape(self));
    }
}

impl Value for String {
    fn write(&self, text: &mut String) {
        self.as_str().write(text);
    }
}

/// Attributes of an element: name and value.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a dyn Value)];

/// A drawing in the making.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
    open: Vec<&'static str>,
}

impl Svg {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn tag(&mut self, name: &str, attributes: Attributes) {
        self.body.push('<');
        self.body.push_str(name);
        for (name, value) in attributes {
            self.body.push(' ');
            self.body.push_str(name);
            self.body.push_str("=\"");
            value.write(&mut self.body);
            self.body.push('"');
        }
    }

    /// Opens an element, to be closed by [`Svg::close`].
    pub(super) fn open(&mut self, name: &'static str, attributes: Attributes) {
        self.tag(name, attributes);
        self.body.push('>');
        self.open.push(name);
    }

    /// Closes the element that was opened last.
    pub(super) fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            let _ = write!(self.body, "</{name}>");
        }
    }

    /// An element without content.
    pub(super) fn leaf(&mut self, name: &str, attributes: Attributes) {
        self.tag(name, attributes);
        self.body.push_str("/>");
    }

    /// An element whose tooltip is `title`.
    pub(super) fn titled(&mut self, name: &str, attributes: Attributes, title: &str) {
        self.tag(name, attributes);
        let _ = write!(self.body, "><title>{}</title></{name}>", escape(title));
    }

    /// An element of text, such as `text`, `tspan` or `title`.
    pub(super) fn text(&mut self, name: &str, attributes: Attributes, content: &str) {
        self.tag(name, attributes);
        let _ = write!(self.body, ">{}</{name}>", escape(content));
    }

    /// The drawing, `width` × `height` pixels; elements that are still open are closed.
    pub(super) fn finish(mut self, size: (f64, f64), label: impl Into<String>) -> Picture {
        while !self.open.is_empty() {
            self.close();
        }
        Picture { size, label: label.into(), body: self.body }
    }
}

/// The data of a path. Coordinates are kept to a tenth of a pixel, moves are relative, so that long lines stay small
/// and rounding does not add up.
#[derive(Clone, Debug, Default)]
pub(super) struct Path {
    data: String,
    at: (i64, i64),
}

impl Path {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A line through all points; nothing for none.
    pub(super) fn line(&mut self, points: &[(f64, f64)]) {
        let mut points = points.iter().map(|&(x, y)| (tenths(x), tenths(y)));
        let Some(first) = points.next() else { return };
        self.data.push('M');
        push_pair(&mut self.data, first.0, first.1);
        self.at = first;
        let mut command = Some('l');
        for point in points {
            let step = (point.0 - self.at.0, point.1 - self.at.1);
            if step == (0, 0) {
                continue;
            }
            match command.take() {
                Some(command) => self.data.push(command),
                None if step.0 >= 0 => self.data.push(' '),
                None => {}
            }
            push_pair(&mut self.data, step.0, step.1);
            self.at = point;
        }
        if command.is_some() {
            // A line of no length is drawn as a dot, if its ends are round.
            self.data.push_str("h0");
        }
    }

    /// A closed line through all points.
    pub(super) fn polygon(&mut self, points: &[(f64, f64)]) {
        self.line(points);
        if !points.is_empty() {
            self.data.push('Z');
        }
    }

    /// A cubic Bézier curve from the current point.
    pub(super) fn curve(&mut self, first: (f64, f64), second: (f64, f64), end: (f64, f64)) {
        for (at, (x, y)) in [first, second, end].into_iter().enumerate() {
            let (x, y) = (tenths(x), tenths(y));
            self.data.push(if at == 0 { 'C' } else { ' ' });
            push_pair(&mut self.data, x, y);
            self.at = (x, y);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

impl Value for Path {
    fn write(&self, text: &mut String) {
        text.push_str(&self.data);
    }
}

fn tenths(value: f64) -> i64 {
    (value.clamp(-1e7, 1e7) * 10.0).round() as i64
}

fn push_tenths(data: &mut String, value: i64) {
    if value < 0 {
        data.push('-');
    }
    let (whole, rest) = (value.unsigned_abs() / 10, value.unsigned_abs() % 10);
    if whole > 0 || rest == 0 {
        let _ = write!(data, "{whole}");
    }
    if rest > 0 {
        let _ = write!(data, ".{rest}");
    }
}

fn push_pair(data: &mut String, x: i64, y: i64) {
    push_tenths(data, x);
    if y >= 0 {
        data.push(' ');
    }
    push_tenths(data, y);
}

/// A coordinate, to a hundredth at most; 0 for what is not a number, so that no picture is broken by one.
pub(super) fn number(value: f64) -> String {
    let value = if value.is_nan() { 0.0 } else { value.clamp(-1e7, 1e7) };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text as it stands in XML, in content as in attributes. What XML 1.0 cannot hold becomes U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' | '\r' => escaped.push(' '),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            // Characters that reverse or hide the text around them.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                escaped.push('\u{fffd}');
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// About how wide a text is, in pixels: no font is at hand, so characters are taken as wide as those of common
/// sans-serif fonts, East Asian ones as square.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let width = |character: char| match character {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | 'I' | ' ' | 'f' | 't' | 'r' | '(' | ')'
        | '-' => 0.34,
        'm' | 'w' | 'M' | 'W' | '%' | '@' => 0.88,
        'A'..='Z' => 0.68,
        '\u{1100}'.. => 1.0,
        _ => 0.56,
    };
    text.chars().map(width).sum::<f64>() * size
}

/// A text that fits into `room` pixels: its middle gives way to an ellipsis, since names of runs differ at both ends.
pub(super) fn fit(text: &str, size: f64, room: f64) -> String {
    if text_width(text, size) <= room {
        return text.to_owned();
    }
    let characters: Vec<char> = text.chars().collect();
    let shortened = |kept: usize| -> String {
        let head = kept.div_ceil(2);
        let tail = characters.len() - (kept - head);
        characters[..head].iter().chain(&['…']).chain(&characters[tail..]).collect()
    };
    (1..characters.len())
        .rev()
        .map(shortened)
        .find(|candidate| text_width(candidate, size) <= room)
        .unwrap_or_else(|| "…".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_finite() {
        let written: Vec<String> =
            [0.0, -0.001, 1.0, 2.5, 1.0 / 3.0, -7.126, f64::NAN, f64::INFINITY].map(number).into();
        assert_eq!(written, ["0", "0", "1", "2.5", "0.33", "-7.13", "0", "10000000"]);
    }

    #[test]
    fn text_cannot_leave_its_element() {
        let hostile = "\"><script>alert('x')</script>&\0\u{202e}";
        assert_eq!(
            escape(hostile),
            "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\u{fffd}\u{fffd}"
        );
        let mut svg = Svg::new();
        svg.open("g", &[("class", &hostile)]);
        svg.titled("path", &[("d", &"M0 0")], hostile);
        svg.text("text", &[], hostile);
        let file = svg.finish((10.0, 10.0), hostile).file();
        assert!(!file.contains("<script"), "{file}");
        assert!(file.ends_with("</g></svg>\n"), "what was left open is closed");
    }

    #[test]
    fn a_plain_picture_names_all_colours_by_value() {
        let file = Svg::new().finish((10.0, 10.0), "").plain();
        assert!(file.contains("svg .page{fill:#ffffff}") && !file.contains("--"), "{file}");
        for foreign in ["var(", "@", ":not("] {
            assert!(!file.contains(foreign), "{foreign} is not understood everywhere");
        }
    }

    #[test]
    fn a_path_is_relative_and_rounding_does_not_add_up() {
        let mut path = Path::new();
        let third = |k: usize| (k as f64 / 3.0, -(k as f64) / 3.0);
        path.line(&(0..=9).map(third).collect::<Vec<_>>());
        assert_eq!(path.data, "M0 0l.3-.3 .4-.4 .3-.3 .3-.3 .4-.4 .3-.3 .3-.3 .4-.4 .3-.3");
        let mut dot = Path::new();
        dot.line(&[(1.0, 2.0), (1.01, 2.01)]);
        assert_eq!(dot.data, "M1 2h0");
    }

    #[test]
    fn long_names_keep_both_ends() {
        let fitted = fit("resnet18-lr0.1-batch128-seed42", 12.0, 100.0);
        assert!(
            fitted.starts_with("resnet") && fitted.ends_with("seed42") && fitted.contains('…'),
            "{fitted}"
        );
        assert!(text_width(&fitted, 12.0) <= 100.0);
        assert_eq!(fit("short", 12.0, 100.0), "short");
        assert_eq!(fit("anything", 12.0, 0.0), "…");
    }
}
