//! A figure with its numbers, and what all figures share.

use std::{error::Error, io, path::Path};

use plotters::{
    coord::Shift,
    prelude::{
        Circle, Cross, DrawingArea, EmptyElement, IntoDrawingArea, PathElement, Rectangle, SVGBackend, Text,
        TriangleMarker,
    },
    style::{
        Color, IntoTextStyle, RGBColor, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};
use thiserror::Error;

use super::axis::Axis;
use crate::{durable, primitive::Symbol, space::Architecture, text};

/// A figure and the numbers that it shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The name of its files, such as `trials`.
    pub name: &'static str,
    /// The title.
    pub title: String,
    /// The caption, which says how to read the figure.
    pub caption: String,
    /// The picture as an SVG document.
    pub svg: String,
    /// The numbers as comma-separated values, with a line of names.
    pub csv: String,
}

/// The error of a figure that cannot be drawn.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the figure {name} cannot be drawn: {reason}")]
pub struct PlotError {
    /// The name of the figure.
    pub name: &'static str,
    /// The message of the drawing library.
    pub reason: String,
}

impl Figure {
    /// Writes `NAME.svg` and `NAME.csv` into `folder`, each atomically.
    ///
    /// # Errors
    /// The I/O error if a file cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        durable::write_in(&folder.join(self.name).with_extension("svg"), self.svg.as_bytes())?;
        durable::write_in(&folder.join(self.name).with_extension("csv"), self.csv.as_bytes())
    }
}

/// The room that a figure has, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) width: i32,
    pub(super) height: i32,
}

impl Room {
    /// The width of a page.
    pub(super) const fn wide(height: i32) -> Self {
        Self { width: 1028, height }
    }

    /// Half of it.
    pub(super) const fn half(height: i32) -> Self {
        Self { width: 480, height }
    }

    /// The width of a phone.
    pub(super) const fn narrow(height: i32) -> Self {
        Self { width: 360, height }
    }

    pub(super) fn is_narrow(self) -> bool {
        self.width <= Self::narrow(0).width
    }

    /// Height of the labels of an axis: on most screens a wide picture is made smaller.
    pub(super) fn letters(self) -> i32 {
        if self.is_narrow() { 13 } else { 15 }
    }

    /// How many labels an axis over the whole width has.
    pub(super) fn labels(self) -> usize {
        (self.width / 85) as usize
    }
}

/// Where a figure is drawn, in pixels.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing gives.
pub(super) type Drawn = Result<(), Box<dyn Error>>;

pub(super) const BLUE: RGBColor = RGBColor(66, 133, 244);
pub(super) const ORANGE: RGBColor = RGBColor(217, 95, 2);
pub(super) const GREY: RGBColor = RGBColor(150, 150, 150);
pub(super) const INK: RGBColor = RGBColor(0, 0, 0);
/// Ink on pale colours, which stay pale on a dark page.
pub(super) const DARK: RGBColor = RGBColor(28, 33, 40);
/// Rings around the result of a search.
pub(super) const GREEN: RGBColor = RGBColor(0, 158, 115);
/// Lines that are told apart also by those who see few colours (Okabe and Ito 2008).
pub(super) const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(90, 90, 90),
];

/// Characters of a text over a point.
const LONGEST_HINT: usize = 300;
/// Characters of a text inside a picture.
const LONGEST_LABEL: usize = 80;

/// Texts that a reader sees over points of a figure.
#[derive(Debug, Default)]
pub(super) struct Hints(String);

impl Hints {
    /// A text over the point at these pixels.
    pub(super) fn point(&mut self, (x, y): (i32, i32), text: &str) {
        self.0 += &format!(
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"8\"><title>{}</title></circle>\n",
            text::html(&text::shortened(text, LONGEST_HINT))
        );
    }

    /// A text over the rectangle between these pixels.
    pub(super) fn area(&mut self, [(left, top), (right, bottom)]: [(i32, i32); 2], text: &str) {
        let width = (right - left).max(1);
        let height = (bottom - top).max(1);
        self.0 += &format!(
            "<rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\"><title>{}</title></rect>\n",
            text::html(&text::shortened(text, LONGEST_HINT))
        );
    }
}

/// An SVG document of this size.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub(super) fn draw(
    name: &'static str,
    size: (u32, u32),
    paint: impl FnOnce(&Area, &mut Hints) -> Drawn,
) -> Result<String, PlotError> {
    let mut svg = String::new();
    let mut hints = Hints::default();
    let paint = || -> Drawn {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        paint(&root, &mut hints)?;
        Ok(root.present()?)
    };
    paint().map_err(|error| PlotError { name, reason: error.to_string() })?;
    let hints = format!("<g class=\"hints\" fill=\"black\" fill-opacity=\"0\">\n{}</g>\n</svg>", hints.0);
    Ok(svg.replacen("</svg>", &hints, 1))
}

/// Writes `text` at these pixels, `size` pixels high.
pub(super) fn write(area: &Area, text: &str, at: (i32, i32), size: u32, color: RGBColor, horizontal: HPos) -> Drawn {
    let style = ("sans-serif", size).into_text_style(area).color(&color).pos(Pos::new(horizontal, VPos::Center));
    area.draw(&(EmptyElement::at(at) + Text::new(label(text), (0, 0), style)))?;
    Ok(())
}

/// Text of a picture, which the drawing library escapes: on one line, and short enough to stay inside.
pub(super) fn label(text: &str) -> String {
    text::shortened(&text::line(text), LONGEST_LABEL)
}

/// Fills the rectangle between these pixels.
pub(super) fn fill(area: &Area, corners: [(i32, i32); 2], color: RGBColor) -> Drawn {
    Ok(area.draw(&Rectangle::new(corners, color.filled()))?)
}

/// The colour of a primitive: fixed for the letters of this crate, the same for a letter everywhere.
pub(super) fn color(symbol: Symbol) -> RGBColor {
    match char::from(symbol) {
        'A' => RGBColor(66, 113, 198),
        'M' => RGBColor(236, 147, 62),
        'F' => RGBColor(201, 90, 73),
        'S' => RGBColor(104, 176, 206),
        'B' => RGBColor(79, 154, 88),
        'G' => RGBColor(143, 101, 176),
        'C' => RGBColor(150, 176, 84),
        'E' => RGBColor(214, 178, 60),
        'R' => RGBColor(216, 126, 150),
        other => {
            let step = other as u8;
            RGBColor(
                90 + step.wrapping_mul(53) % 110,
                90 + step.wrapping_mul(97) % 110,
                90 + step.wrapping_mul(31) % 110,
            )
        }
    }
}

/// Whether dark letters are easier to read on this colour than white ones, by its relative luminance (WCAG 2.2).
/// Between the two, white ones look better.
pub(super) fn is_pale(RGBColor(red, green, blue): RGBColor) -> bool {
    let linear = |part: u8| (f64::from(part) / 255.0).powf(2.2);
    0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue) > 0.22
}

/// The colour of letters on this colour.
pub(super) fn ink_on(color: RGBColor) -> RGBColor {
    if is_pale(color) { DARK } else { WHITE }
}

/// Draws a sequence as cells in a row of `height` pixels from `at`, each `width` pixels wide, with letters where they
/// fit.
pub(super) fn strip(
    area: &Area,
    architecture: &Architecture,
    (mut left, top): (i32, i32),
    height: i32,
    width: impl Fn(Symbol) -> i32,
) -> Drawn {
    for &symbol in architecture.layers() {
        let right = left + width(symbol);
        fill(area, [(left, top), ((right - 1).max(left + 1), top + height)], color(symbol))?;
        if right - left >= 14 {
            let ink = ink_on(color(symbol));
            write(area, &symbol.to_string(), ((left + right) / 2, top + height / 2), 14, ink, HPos::Center)?;
        }
        left = right;
    }
    Ok(())
}

/// A value between its errors on a horizontal scale, at these pixels: low, value, high.
pub(super) fn whisker(area: &Area, [low, value, high]: [i32; 3], y: i32, color: RGBColor) -> Drawn {
    if high > low {
        area.draw(&PathElement::new([(low, y), (high, y)], color))?;
    }
    Ok(area.draw(&Circle::new((value, y), 3, color.filled()))?)
}

/// A horizontal scale at this height, from `left` to `right`, with labels below.
pub(super) fn scale(area: &Area, axis: &Axis, [left, right]: [i32; 2], y: i32) -> Drawn {
    area.draw(&PathElement::new([(left, y), (right, y)], GREY))?;
    for (share, text) in axis.ticks(((right - left) / 85).max(2) as usize) {
        let x = left + (f64::from(right - left) * share) as i32;
        area.draw(&PathElement::new([(x, y), (x, y + 5)], GREY))?;
        write(area, &text, (x, y + 14), 14, INK, HPos::Center)?;
    }
    Ok(())
}

/// A mark that a figure explains.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mark {
    Line,
    Dot,
    Ring,
    Triangle,
    Cross,
    Area,
}

/// A mark with its colour and meaning.
pub(super) type Key<'a> = (Mark, RGBColor, &'a str);

/// Height of a line of a legend.
const LINE: i32 = 22;

/// Where the entries of a legend begin that has this width, line by line, and the height that it needs.
fn lay_out(keys: &[Key], width: i32) -> (Vec<(i32, i32)>, i32) {
    let mut places = Vec::new();
    let mut x = 0;
    let mut y = 0;
    for (_, _, text) in keys {
        let own = 40 + 7 * text.chars().count() as i32;
        if x > 0 && x + own > width + 16 {
            x = 0;
            y += LINE;
        }
        places.push((x, y));
        x += own;
    }
    (places, y + LINE)
}

/// The height of a legend.
pub(super) fn legend_height(keys: &[Key], width: i32) -> i32 {
    lay_out(keys, width).1
}

/// What marks mean, from this place to the right, `width` pixels wide.
pub(super) fn legend(area: &Area, keys: &[Key], (left, top): (i32, i32), width: i32) -> Drawn {
    for (&(mark, color, text), (x, y)) in keys.iter().zip(lay_out(keys, width).0) {
        let from = left + x;
        let middle = top + y + LINE / 2;
        let at = (from + 8, middle);
        match mark {
            Mark::Line => area.draw(&PathElement::new([(from, middle), (from + 16, middle)], color.stroke_width(2)))?,
            Mark::Dot => area.draw(&Circle::new(at, 3, color.filled()))?,
            Mark::Ring => area.draw(&Circle::new(at, 6, color.stroke_width(2)))?,
            Mark::Triangle => area.draw(&TriangleMarker::new(at, 6, color.filled()))?,
            Mark::Cross => area.draw(&Cross::new(at, 4, color.stroke_width(2)))?,
            Mark::Area => fill(area, [(from, middle - 5), (from + 16, middle + 5)], color)?,
        }
        write(area, text, (from + 22, middle), 14, INK, HPos::Left)?;
    }
    Ok(())
}

/// Lines of comma-separated values.
pub(super) fn csv(names: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| cells.iter().map(|cell| text::cell(cell)).collect::<Vec<_>>().join(",") + "\n";
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    rows.into_iter().fold(line(&names), |text, row| text + &line(&row))
}

/// A label of an axis that counts: nothing between whole numbers.
pub(super) fn whole(value: f64) -> String {
    let near = value.round() + 0.0;
    if (value - near).abs() < 1e-6 { format!("{near}") } else { String::new() }
}

/// The corners of a line that keeps each value until the next.
pub(super) fn steps(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let corners = points.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(points.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_with_commas_and_markup_stay_whole() {
        let text = csv(&["a", "b"], [vec!["x,y".into(), "say \"no\"".into()], vec!["1".into(), "2".into()]]);
        assert_eq!(text, "a,b\n\"x,y\",\"say \"\"no\"\"\"\n1,2\n");
    }

    #[test]
    fn axes_that_count_have_whole_labels() {
        assert_eq!([-0.0, 0.5, 1.0 - 1e-9, 12.0].map(whole), ["0", "", "1", "12"]);
    }

    #[test]
    fn hints_are_inside_the_document() {
        let svg = draw("test", (10, 10), |area, hints| {
            hints.point((1, 2), "a < b");
            hints.area([(0, 0), (5, 5)], "all");
            write(area, "word", (5, 5), 9, INK, HPos::Left)
        });
        let svg = svg.unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && svg.matches("</svg>").count() == 1);
        assert!(svg.contains("<title>a &lt; b</title>") && svg.contains("word"));
    }

    #[test]
    fn legends_go_on_in_the_next_line() {
        let keys = [(Mark::Line, INK, "a line"), (Mark::Dot, INK, "a dot")];
        assert_eq!(lay_out(&keys, 500), (vec![(0, 0), (82, 0)], 22));
        assert_eq!(lay_out(&keys, 100), (vec![(0, 0), (0, 22)], 44));
        assert!(!is_pale(color(Symbol::ATTENTION)) && is_pale(color(Symbol::SWIGLU)));
    }

    #[test]
    fn every_letter_has_a_colour_of_its_own_among_ours() {
        let ours = "AMFSBGCER".chars().map(|letter| color(letter.to_string().parse().unwrap()));
        let distinct: std::collections::BTreeSet<_> = ours.map(|color| (color.0, color.1, color.2)).collect();
        assert_eq!(distinct.len(), 9);
    }
}
