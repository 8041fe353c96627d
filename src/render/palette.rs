//! Colours: those of Morse sets, the same in every picture, and those of everything else.
//!
//! The hues are those of Okabe and Ito (*Color Universal Design*, 2008), shifted by a search so that any two are far
//! apart for readers with normal vision, with protanopia and with deuteranopia, on light and on dark ground; the tests
//! hold them to it. No picture tells anything by colour alone.

use std::fmt::Write;

use crate::engine::{MorseGraph, Role};

/// Colours of Morse sets on light and on dark ground.
const SETS: [(Rgb, Rgb); 6] = [
    (Rgb(0x00_6c_c9), Rgb(0x29_93_fb)),
    (Rgb(0xe4_83_2d), Rgb(0xf8_98_13)),
    (Rgb(0x41_a2_76), Rgb(0x2d_c3_88)),
    (Rgb(0x79_50_85), Rgb(0xe5_81_c7)),
    (Rgb(0x7b_b5_d8), Rgb(0x43_d8_fe)),
    (Rgb(0x55_45_00), Rgb(0xf0_f1_6a)),
];

/// The colour of alerts, of nothing else.
const ALERT: (Rgb, Rgb) = (Rgb(0xd5_34_3f), Rgb(0xf0_67_4f));

/// The colour of Morse sets beyond the sixth, and of all that has no destination.
const NEUTRAL: (Rgb, Rgb) = (Rgb(0x65_68_6a), Rgb(0x82_84_87));

/// The ground, on which tints are mixed.
const PAGE: (Rgb, Rgb) = (Rgb(0xff_ff_ff), Rgb(0x14_17_1c));

/// Share of a Morse set's colour in the tint of its basin, on light and on dark ground.
const TINT: (f64, f64) = (0.26, 0.30);

/// The same of the neutral colour, to be told from what is undecided.
const NEUTRAL_TINT: (f64, f64) = (0.42, 0.5);

/// Everything else, name and colours on light and on dark ground.
const OTHERS: [(&str, Rgb, Rgb); 9] = [
    ("page", PAGE.0, PAGE.1),
    ("card", Rgb(0xf6_f7_f9), Rgb(0x1c_20_27)),
    ("ink", Rgb(0x1a_1d_21), Rgb(0xe9_ec_f0)),
    ("soft", Rgb(0x55_5c_66), Rgb(0xa9_b1_bc)),
    ("line", Rgb(0xd9_dd_e3), Rgb(0x38_3e_48)),
    ("path", Rgb(0x8a_90_99), Rgb(0x7d_85_90)),
    ("undecided", Rgb(0xec_ec_e9), Rgb(0x2b_2c_2c)),
    ("good", Rgb(0x1d_7a_4f), Rgb(0x4c_c8_8f)),
    ("watch", Rgb(0x9a_62_00), Rgb(0xf0_b4_3c)),
];

/// A colour, 0xRRGGBB in sRGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rgb(u32);

impl Rgb {
    fn channels(self) -> [u8; 3] {
        let [_, red, green, blue] = self.0.to_be_bytes();
        [red, green, blue]
    }

    /// `share` of this colour, the rest of `ground`.
    fn over(self, ground: Self, share: f64) -> Self {
        let (top, under) = (self.channels(), ground.channels());
        let mixed =
            |k: usize| (share * f64::from(top[k]) + (1.0 - share) * f64::from(under[k])).round() as u8;
        Self(u32::from_be_bytes([0, mixed(0), mixed(1), mixed(2)]))
    }
}

/// All variables with their colours on light and on dark ground.
fn colours() -> Vec<(String, Rgb, Rgb)> {
    let mut all: Vec<(String, Rgb, Rgb)> =
        OTHERS.iter().map(|(name, light, dark)| ((*name).to_owned(), *light, *dark)).collect();
    all.push(("alert".to_owned(), ALERT.0, ALERT.1));
    for (at, (light, dark)) in SETS.into_iter().chain([NEUTRAL]).enumerate() {
        let share = if at == NO_SET { NEUTRAL_TINT } else { TINT };
        all.push((format!("m{at}"), light, dark));
        all.push((format!("t{at}"), light.over(PAGE.0, share.0), dark.over(PAGE.1, share.1)));
    }
    all
}

/// The CSS variables of all colours, for light and dark.
pub(super) fn variables() -> String {
    let block = |pick: fn(&(String, Rgb, Rgb)) -> Rgb| {
        let mut text = String::new();
        for colour in colours() {
            let _ = write!(text, "--{}:#{:06x};", colour.0, pick(&colour).0);
        }
        text
    };
    format!(
        ":root{{color-scheme:light dark;{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n",
        block(|colour| colour.1),
        block(|colour| colour.2)
    )
}

/// A style sheet with the colours on light ground in place of the variables of [`variables`], for what draws pictures
/// without knowing variables.
pub(super) fn on_light_ground(style_sheet: &str) -> String {
    colours().into_iter().fold(style_sheet.to_owned(), |text, (name, light, _)| {
        text.replace(&format!("var(--{name})"), &format!("#{:06x}", light.0))
    })
}

/// Classes by which pictures name the colours of Morse sets: `f` fills, `s` strokes, `t` fills with the tint of the
/// basin; each followed by a [`Colour`].
pub(super) fn classes() -> String {
    let mut text = String::new();
    for at in 0..=SETS.len() {
        let _ = write!(
            text,
            ".f{at}{{fill:var(--m{at})}}.s{at}{{stroke:var(--m{at})}}.t{at}{{fill:var(--t{at})}}"
        );
    }
    text.push('\n');
    text
}

/// Number of a Morse set's colour, as in the classes.
pub(super) type Colour = usize;

/// The colour of what belongs to no Morse set.
pub(super) const NO_SET: Colour = SETS.len();

/// The colour of a Morse set on light ground, for formats without style sheets.
pub(super) fn hex(colour: Colour) -> String {
    let (light, _) = SETS.get(colour).copied().unwrap_or(NEUTRAL);
    format!("#{:06x}", light.0)
}

/// The colour of each Morse set: attractors first, then open sets, then the others; within each kind those where more
/// runs ended, then those that were visited more, then the larger ones. Sets of trivial index, which may hold nothing,
/// come last and are neutral, as is what is left when the colours run out.
pub(super) fn assign(graph: &MorseGraph) -> Vec<Colour> {
    let mut colours = vec![NO_SET; graph.sets.len()];
    let telling = by_importance(graph).into_iter().filter(|&set| !graph.sets[set].conley_index.is_trivial());
    for (colour, set) in telling.take(SETS.len()).enumerate() {
        colours[set] = colour;
    }
    colours
}

/// The Morse sets, the most telling first; see [`assign`].
pub(super) fn by_importance(graph: &MorseGraph) -> Vec<usize> {
    let mut order: Vec<usize> = (0..graph.sets.len()).collect();
    order.sort_by_key(|&at| {
        let set = &graph.sets[at];
        let kind = match set.role {
            Role::Attractor => 0,
            Role::Open => 1,
            Role::Repeller | Role::Intermediate if !set.conley_index.is_trivial() => 2,
            Role::Repeller | Role::Intermediate => 3,
        };
        let ended = set.visits.iter().filter(|visit| visit.ends_here).count();
        (kind, usize::MAX - ended, usize::MAX - set.visits.len(), usize::MAX - set.size, at)
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linear sRGB.
    fn linear(colour: Rgb) -> [f64; 3] {
        colour.channels().map(|channel| {
            let value = f64::from(channel) / 255.0;
            if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        })
    }

    fn times(matrix: [[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
        matrix.map(|row| row.iter().zip(vector).map(|(a, b)| a * b).sum())
    }

    /// Machado, Oliveira and Fernandes 2009, severity 1, on linear sRGB.
    const VISIONS: [(&str, [[f64; 3]; 3]); 3] = [
        ("normal", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "protanopia",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "deuteranopia",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
    ];

    /// CIE L*a*b* (D65) of a colour as seen with a vision.
    fn lab(colour: Rgb, vision: [[f64; 3]; 3]) -> [f64; 3] {
        let seen = times(vision, linear(colour)).map(|value| value.clamp(0.0, 1.0));
        let xyz = times(
            [
                [0.412_456_4, 0.357_576_1, 0.180_437_5],
                [0.212_672_9, 0.715_152_2, 0.072_175_0],
                [0.019_333_9, 0.119_192_0, 0.950_304_1],
            ],
            seen,
        );
        let f = |t: f64| {
            if t > 216.0 / 24389.0 { t.cbrt() } else { (24389.0 / 27.0 * t + 16.0) / 116.0 }
        };
        let [x, y, z] = [f(xyz[0] / 0.950_47), f(xyz[1]), f(xyz[2] / 1.088_83)];
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    /// Smallest ΔE (CIE 1976) of any two of these colours, for any of the visions, with the pair.
    fn closest(colours: &[Rgb]) -> (f64, String) {
        let mut least = (f64::INFINITY, String::new());
        for (name, vision) in VISIONS {
            for (at, &first) in colours.iter().enumerate() {
                for &second in &colours[at + 1..] {
                    let (p, q) = (lab(first, vision), lab(second, vision));
                    let distance = p.iter().zip(q).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    if distance < least.0 {
                        least = (distance, format!("{:06x} {:06x} {name}", first.0, second.0));
                    }
                }
            }
        }
        least
    }

    /// Contrast ratio, WCAG 2.
    fn contrast(first: Rgb, second: Rgb) -> f64 {
        let luminance = |colour| {
            let [red, green, blue] = linear(colour);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let (a, b): (f64, f64) = (luminance(first), luminance(second));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// A ground: its name, how to pick its colour from a pair, the share of tints.
    type Theme = (&'static str, fn((Rgb, Rgb)) -> Rgb, f64);

    fn themes() -> [Theme; 2] {
        [("light", |pair| pair.0, TINT.0), ("dark", |pair| pair.1, TINT.1)]
    }

    #[test]
    fn colours_can_be_told_apart_by_colour_blind_readers() {
        for (theme, pick, share) in themes() {
            let sets: Vec<Rgb> = SETS.map(pick).into();
            let full: Vec<Rgb> = sets.iter().copied().chain([pick(ALERT), pick(NEUTRAL)]).collect();
            let (distance, pair) = closest(&full);
            assert!(distance > 19.0, "{theme}: ΔE {distance:.1} between {pair}");
            let tints: Vec<Rgb> = sets.iter().map(|colour| colour.over(pick(PAGE), share)).collect();
            let (distance, pair) = closest(&tints);
            assert!(distance > 6.5, "{theme}: ΔE {distance:.1} between the tints of {pair}");
        }
    }

    #[test]
    fn text_and_marks_stand_out_from_the_ground() {
        let other = |name: &str| {
            let (_, light, dark) =
                OTHERS.iter().find(|other| other.0 == name).expect("a colour of that name");
            (*light, *dark)
        };
        for (theme, pick, share) in themes() {
            for ground in ["page", "card"] {
                for text in [other("ink"), other("soft"), other("good"), other("watch"), ALERT] {
                    let ratio = contrast(pick(text), pick(other(ground)));
                    assert!(ratio >= 4.4, "{theme}: text {:06x} on {ground}: {ratio:.2}", pick(text).0);
                }
            }
            for colour in SETS.into_iter().chain([NEUTRAL]) {
                let tint = pick(colour).over(pick(PAGE), share);
                assert!(contrast(pick(other("ink")), tint) > 5.5, "{theme}: labels on {:06x}", tint.0);
                assert!(contrast(pick(colour), pick(PAGE)) > 2.1, "{theme}: {:06x}", pick(colour).0);
            }
        }
    }
}
