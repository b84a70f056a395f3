//! Columns of text.

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// Sets `rows` under `heads` in columns two spaces apart, each line ended.
pub fn render<const N: usize>(heads: [(&str, Side); N], rows: &[[String; N]]) -> String {
    let mut widths = heads.map(|(head, _)| head.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let mut set = String::new();
        for (i, cell) in cells.iter().enumerate() {
            let width = widths[i];
            match heads[i].1 {
                Side::Left => set.push_str(&format!("{cell:<width$}")),
                Side::Right => set.push_str(&format!("{cell:>width$}")),
            }
            set.push_str("  ");
        }
        text.push_str(set.trim_end());
        text.push('\n');
    };
    line(heads.map(|(head, _)| head));
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Side, render};

    #[test]
    fn columns_line_up() {
        let rows = [["alice".to_owned(), "7".to_owned()], ["b".to_owned(), "1,000".to_owned()]];
        let text = render([("NAME", Side::Left), ("WAITING", Side::Right)], &rows);
        assert_eq!(text, "NAME   WAITING\nalice        7\nb        1,000\n");
    }
}
