//! Tables that fit the terminal.

use anstyle::Style;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::output::style::{self, paint};

/// Two spaces between columns, as kubectl's three are more than a narrow terminal has.
const GAP: usize = 2;

/// One column.
#[derive(Debug, Clone)]
pub struct Column {
    title: &'static str,
    right: bool,
    /// Narrowest useful width of a column that may be cut.
    least: Option<usize>,
    /// Columns with a higher number are left out earlier when there is no room; 0 stays.
    spare: u8,
}

impl Column {
    /// A column of texts.
    pub const fn text(title: &'static str) -> Self {
        Self { title, right: false, least: None, spare: 0 }
    }

    /// A column of numbers, aligned at their last digit.
    pub const fn number(title: &'static str) -> Self {
        Self { title, right: true, least: None, spare: 0 }
    }

    /// May be cut down to `least` where there is no room.
    pub const fn cut_to(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }

    /// May be left out where there is no room; those with a higher number go first.
    pub const fn spare(mut self, order: u8) -> Self {
        self.spare = order;
        self
    }
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text in a style.
    pub fn new(text: impl Into<String>, style: Style) -> Self {
        // One row is one line: a device may put a line break into its name.
        let text = text.into().replace(|c: char| c.is_control(), " ");
        Self { text, style }
    }

    /// A plain text.
    pub fn plain(text: impl Into<String>) -> Self {
        Self::new(text, style::PLAIN)
    }

    /// A text that may be missing.
    pub fn optional(text: Option<impl Into<String>>) -> Self {
        text.map_or_else(|| Self::plain(""), Self::plain)
    }
}

/// Rows under columns. A column that is empty in every row is left out.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The text of the table, at most `width` columns wide if that can be had.
    pub fn render(&self, width: Option<usize>, headers: bool, indent: usize) -> String {
        let layout = self.layout(width.map(|width| width.saturating_sub(indent)), headers);
        let margin = " ".repeat(indent);
        let mut text = String::new();
        if headers && !self.rows.is_empty() {
            let titles = |column: usize| Cell::new(self.columns[column].title, style::HEADING);
            self.line(&mut text, &margin, &layout, titles);
        }
        for row in &self.rows {
            self.line(&mut text, &margin, &layout, |column| row[column].clone());
        }
        text
    }

    fn line(&self, text: &mut String, margin: &str, layout: &[(usize, usize)], cell: impl Fn(usize) -> Cell) {
        let mut line = margin.to_owned();
        for (place, &(column, width)) in layout.iter().enumerate() {
            let cell = cell(column);
            let words = cut(&cell.text, width);
            let padding = " ".repeat(width - words.width());
            let painted = paint(cell.style, &words);
            let last = place + 1 == layout.len();
            match (self.columns[column].right, last) {
                (true, _) => line.extend([padding, painted]),
                (false, true) => line.push_str(&painted),
                (false, false) => line.extend([painted, padding]),
            }
            if !last {
                line.push_str(&" ".repeat(GAP));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }

    /// The columns to show and their widths.
    fn layout(&self, width: Option<usize>, headers: bool) -> Vec<(usize, usize)> {
        let filled = |column: &usize| self.rows.iter().any(|row| !row[*column].text.is_empty());
        let mut shown: Vec<_> = (0..self.columns.len())
            .filter(filled)
            .map(|column| (column, self.natural_width(column, headers)))
            .collect();
        let Some(width) = width else { return shown };
        loop {
            let over = total(&shown).saturating_sub(width);
            if over <= self.slack(&shown) {
                self.cut_widest(&mut shown, over);
                return shown;
            }
            let spare = shown.iter().enumerate().max_by_key(|(_, (column, _))| self.columns[*column].spare);
            match spare {
                Some((place, &(column, _))) if self.columns[column].spare > 0 => _ = shown.remove(place),
                _ => {
                    self.cut_widest(&mut shown, over);
                    return shown;
                }
            }
        }
    }

    fn natural_width(&self, column: usize, headers: bool) -> usize {
        let title = if headers { self.columns[column].title.width() } else { 0 };
        self.rows.iter().map(|row| row[column].text.width()).max().unwrap_or(0).max(title)
    }

    /// How much the columns can give away.
    fn slack(&self, shown: &[(usize, usize)]) -> usize {
        shown
            .iter()
            .map(|&(column, width)| self.columns[column].least.map_or(0, |least| width.saturating_sub(least)))
            .sum()
    }

    fn cut_widest(&self, shown: &mut [(usize, usize)], mut over: usize) {
        let can_give =
            |&(column, width): &(usize, usize)| self.columns[column].least.is_some_and(|least| width > least);
        while over > 0 {
            let Some(widest) = shown.iter_mut().filter(|entry| can_give(entry)).max_by_key(|(_, width)| *width) else {
                return;
            };
            widest.1 -= 1;
            over -= 1;
        }
    }
}

fn total(shown: &[(usize, usize)]) -> usize {
    shown.iter().map(|(_, width)| width + GAP).sum::<usize>().saturating_sub(GAP)
}

/// The text, or as much of it as fits with `…` behind.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        cut.push(c);
    }
    if width > 0 {
        cut.push('…');
    }
    cut
}

/// Lines of at most `width` columns, broken at spaces.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.len() - 1;
        if lines[line].is_empty() {
            lines[line].push_str(word);
        } else if lines[line].width() + 1 + word.width() <= width {
            lines[line].push(' ');
            lines[line].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [
            Column::text("NAME"),
            Column::number("COUNT"),
            Column::text("EMPTY"),
            Column::text("WHERE").spare(1),
            Column::text("WHY").cut_to(6),
        ];
        let mut table = Table::new(columns);
        let plain = |texts: [&str; 5]| texts.map(Cell::plain);
        table.row(plain(["a", "1", "", "here", "a long reason"]));
        table.row(plain(["日本", "10", "", "there", "short"]));
        table
    }

    #[test]
    fn a_table_has_the_room_that_it_needs_and_not_more() {
        let wide = "NAME  COUNT  WHERE  WHY\na         1  here   a long reason\n日本     10  there  short\n";
        assert_eq!(table().render(None, true, 0).replace("\u{1b}[1m", "").replace("\u{1b}[0m", ""), wide);
        let cut = "a      1  here   a long …\n日本  10  there  short\n";
        assert_eq!(table().render(Some(25), false, 0), cut);
    }

    #[test]
    fn the_spare_column_goes_before_a_word_is_lost() {
        assert_eq!(table().render(Some(18), false, 0), "a      1  a long …\n日本  10  short\n");
    }

    #[test]
    fn what_cannot_fit_is_still_there() {
        assert_eq!(table().render(Some(3), false, 0), "a      1  a lon…\n日本  10  short\n");
    }

    #[test]
    fn a_line_break_in_a_cell_is_none_in_the_table() {
        let mut table = Table::new([Column::text("A")]);
        table.row([Cell::plain("x\ny\u{1b}[31m")]);
        assert_eq!(table.render(None, false, 0), "x y [31m\n");
    }

    #[test]
    fn long_texts_are_broken_at_spaces() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("unbreakable", 3), ["unbreakable"]);
    }
}
