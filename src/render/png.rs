//! Pictures as PNG, for those who cannot show an SVG: issue trackers, experiment trackers, mail.
//!
//! Text is drawn with the one font that this program carries, never with one of the machine, and no graphics card takes
//! part: a picture looks the same wherever it is made. The colours are those on light ground, since the pages that show
//! such pictures are white, and a raster cannot adapt.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{FontResolver, Options, Tree, fontdb};

/// Width in pixels that is aimed at: of most pictures, which are 520 wide, each pixel becomes three by three.
const WIDTH: f32 = 1560.0;

/// Least and most enlargement: text stays sharp in wide pictures, and narrow ones do not become posters.
const SCALES: (f32, f32) = (2.0, 3.0);

/// More pixels than this are not drawn (64 MiB, twice that while they are written). Pictures have some three million.
const MOST_PIXELS: f32 = 16_777_216.0;

/// Why a picture could not be made into pixels: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum RasterError {
    /// What was written is no SVG.
    #[error("the SVG cannot be read")]
    Svg {
        /// What `usvg` says.
        #[from]
        source: resvg::usvg::Error,
    },
    /// It is too large, even without being enlarged.
    #[error("a picture of {width:.0} × {height:.0} pixels is too large")]
    Size {
        /// Natural width.
        width: f32,
        /// Natural height.
        height: f32,
    },
    /// The pixels cannot be written as PNG.
    #[error("the pixels cannot be encoded")]
    Encode {
        /// What `png` says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The font, regular and bold: `fonts/README.md` tells where it comes from.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    for face in [&include_bytes!("fonts/Arimo-Regular.ttf")[..], include_bytes!("fonts/Arimo-Bold.ttf")] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(face)));
    }
    Arc::new(fonts)
});

/// The PNG of an SVG, which names its colours by value: CSS variables and media queries are not understood.
pub(super) fn from_svg(svg: &str) -> Result<Vec<u8>, RasterError> {
    let tree = Tree::from_str(svg, &options())?;
    let (width, height) = (tree.size().width(), tree.size().height());
    let too_large = || RasterError::Size { width, height };
    let scale = scale(width, height).ok_or_else(too_large)?;
    let pixels = |length: f32| (length * scale).round().max(1.0) as u32;
    let mut pixmap = Pixmap::new(pixels(width), pixels(height)).ok_or_else(too_large)?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| RasterError::Encode { source: error.into() })
}

/// How much a picture of this natural size is enlarged; none if even the natural size is too much.
fn scale(width: f32, height: f32) -> Option<f32> {
    let affordable = (MOST_PIXELS / width / height).sqrt();
    (affordable >= 1.0).then_some((WIDTH / width).clamp(SCALES.0, SCALES.1).min(affordable))
}

/// Whatever family is asked for, the one font is taken, bold from the weight 600 on, as browsers do where there are but
/// these two. A character that it lacks is drawn as a box; there is nothing to fall back to.
fn options() -> Options<'static> {
    let face = |bold: bool, fonts: &fontdb::Database| {
        let matches = |face: &&fontdb::FaceInfo| (face.weight >= fontdb::Weight::SEMIBOLD) == bold;
        fonts.faces().find(matches).map(|face| face.id)
    };
    Options {
        fontdb: Arc::clone(&FONTS),
        font_resolver: FontResolver {
            select_font: Box::new(move |font, fonts| face(font.weight() >= 600, fonts)),
            select_fallback: Box::new(|_, _, _| None),
        },
        ..Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::Svg;
    use super::*;

    /// A picture of 260 × 40 pixels with a line of text.
    fn picture(class: &str, text: &str) -> String {
        let mut svg = Svg::new();
        svg.text("text", &[("class", &class), ("x", &10.0), ("y", &25.0)], text);
        svg.finish((260.0, 40.0), "").plain()
    }

    fn drawn(class: &str, text: &str) -> Pixmap {
        let bytes = from_svg(&picture(class, text)).expect("a picture");
        Pixmap::decode_png(&bytes).expect("a PNG")
    }

    /// Number of pixels that are nearly black.
    fn ink(pixmap: &Pixmap) -> usize {
        pixmap.pixels().iter().filter(|pixel| pixel.green() < 0x40).count()
    }

    #[test]
    fn a_png_of_the_enlarged_size_the_same_every_time() {
        let bytes = from_svg(&picture("", "M0")).expect("a picture");
        assert!(bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
        let pixmap = Pixmap::decode_png(&bytes).expect("a PNG");
        assert_eq!((pixmap.width(), pixmap.height()), (780, 120));
        assert_eq!(bytes, from_svg(&picture("", "M0")).expect("a picture"));
    }

    #[test]
    fn text_is_drawn_on_white_ground_bold_where_it_is_strong() {
        let (nothing, plain, strong) = (drawn("", ""), drawn("", "attractor"), drawn("strong", "attractor"));
        assert!(nothing.pixels().iter().all(|pixel| {
            (pixel.red(), pixel.green(), pixel.blue(), pixel.alpha()) == (255, 255, 255, 255)
        }));
        assert!(plain.pixels().iter().all(|pixel| pixel.alpha() == 255));
        assert!(ink(&plain) > 500, "{}", ink(&plain));
        assert!(ink(&strong) as f64 > 1.2 * ink(&plain) as f64, "{} {}", ink(&strong), ink(&plain));
    }

    #[test]
    fn what_the_font_lacks_is_a_box_and_what_pictures_write_is_not_lacking() {
        let missing = drawn("", "漢");
        assert!(ink(&missing) > 20, "{}", ink(&missing));
        assert_eq!(missing, drawn("", "字"));
        for written in "−…⊕×≤→∂σφΛéñøšżΩЖя²⁻¹₂ℤ\u{fffd}".chars() {
            for class in ["", "strong"] {
                let glyph = drawn(class, &written.to_string());
                assert!(ink(&glyph) > 0 && glyph != drawn(class, "漢"), "{written} {class}");
            }
        }
        for strange in ["", " ", "e\u{301}\u{302}", "مرحبا", "👩‍🔬", "\u{202e}\0\u{feff}", "\u{10ffff}", "ก็็็็็"]
        {
            drawn("label loud", strange);
        }
    }

    #[test]
    fn absurd_sizes_are_refused_and_large_ones_enlarged_less() {
        let of_size = |size: (f64, f64)| from_svg(&Svg::new().finish(size, "").plain());
        assert!(matches!(of_size((1e7, 1e7)), Err(RasterError::Size { .. })));
        assert!(matches!(of_size((1e7, 10.0)), Err(RasterError::Size { .. })));
        assert!(matches!(of_size((0.0, 10.0)), Err(RasterError::Svg { .. })));
        let enlarged = |width: f32, height: f32| scale(width, height).map(|scale| (scale * 100.0).round());
        assert_eq!(enlarged(520.0, 571.0), Some(300.0));
        assert_eq!(enlarged(600.0, 571.0), Some(260.0));
        assert_eq!(enlarged(1282.5, 350.0), Some(200.0));
        assert_eq!(enlarged(2048.0, 4096.0), Some(141.0));
    }
}
