//! Pictures and pages: plots as SVG or PNG, and one HTML file that needs no network.

mod charts;
mod page;
pub mod palette;
mod picture;
mod plot;
mod table;

pub use charts::{ForestRow, bars, forest, heat_map, histogram, precision_recall, reliability, roc};
pub use page::{Page, escape};
pub use picture::Picture;
pub use plot::{Axis, Corner, Layer, Plot};
pub use table::Table;
