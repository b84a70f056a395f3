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
    render_columns(&heads, &rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>())
}

/// The same where it is known only then how many columns there are. A row has as many cells as there are heads.
pub fn render_columns(heads: &[(&str, Side)], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heads.iter().map(|(head, _)| head.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: Vec<&str>| {
        let mut set = String::new();
        for ((cell, width), (_, side)) in cells.into_iter().zip(&widths).zip(heads) {
            match side {
                Side::Left => set.push_str(&format!("{cell:<width$}")),
                Side::Right => set.push_str(&format!("{cell:>width$}")),
            }
            set.push_str("  ");
        }
        text.push_str(set.trim_end());
        text.push('\n');
    };
    line(heads.iter().map(|(head, _)| *head).collect());
    for row in rows {
        line(row.iter().map(String::as_str).collect());
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
