//! Charts as PNG, for mails: drawn with a font of our own, since what a server has installed must
//! not matter.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

/// The one font there is: what a server has installed must not matter.
const FONT: &[u8] = include_bytes!("../../../assets/DejaVuSans.ttf");
/// Screens have two pixels where the layout counts one.
const ZOOM: f32 = 2.0;

static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(FONT.to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// The picture as PNG on white; `None` where it cannot
/// be drawn.
pub fn png(svg: &str) -> Option<Vec<u8>> {
    let options = Options {
        fontdb: Arc::clone(&FONTS),
        font_family: "DejaVu Sans".to_owned(),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options).ok()?;
    let size = tree.size().to_int_size().scale_by(ZOOM)?;
    let mut pixels = Pixmap::new(size.width(), size.height())?;
    // Mail programs show it on any ground; its text is made for this one.
    pixels.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(ZOOM, ZOOM),
        &mut pixels.as_mut(),
    );
    pixels.encode_png().ok()
}
