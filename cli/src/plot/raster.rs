//! The picture as a PNG: the SVG, rasterised with a font that comes along, so that it looks the same on
//! every machine and needs no font there.

use anyhow::Context as _;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg;

/// Pixels of the PNG to one of the SVG.
const SCALE: f32 = 2.0;
const FAMILY: &str = "Roboto";
/// Roboto (Google, Apache-2.0), as far as Latin, Greek and Cyrillic go.
const FONTS: [&[u8]; 2] = [
    include_bytes!("fonts/Roboto-Regular.ttf"),
    include_bytes!("fonts/Roboto-Bold.ttf"),
];

/// Rasterises an SVG.
///
/// # Errors
/// Where the SVG cannot be understood.
pub(super) fn png(svg: &str) -> anyhow::Result<Vec<u8>> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    for font in FONTS {
        fonts.load_font_data(font.to_vec());
    }
    fonts.set_sans_serif_family(FAMILY);
    FAMILY.clone_into(&mut options.font_family);
    let tree = usvg::Tree::from_str(svg, &options).context("cannot rasterise the picture")?;
    let size = tree.size();
    let (width, height) = (size.width() * SCALE, size.height() * SCALE);
    let mut pixels = Pixmap::new(width.ceil() as u32, height.ceil() as u32)
        .context("cannot rasterise a picture without area")?;
    let transform = Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, transform, &mut pixels.as_mut());
    pixels.encode_png().context("cannot write a PNG")
}
