//! Tables: aligned columns for people, pipes for markdown.

/// Lines of cells under their headings, aligned with two spaces between columns.
pub(crate) fn plain(titles: &[&str], rows: &[Vec<String>], headers: bool) -> String {
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            let cells = rows.iter().map(|row| width(&row[column])).max().unwrap_or(0);
            if headers { cells.max(width(titles[column])) } else { cells }
        })
        .collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (cell, wanted) in cells.zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', wanted.saturating_sub(width(cell)) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    if headers {
        line(&mut titles.iter().copied());
    }
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A table of GitHub's markdown.
pub(crate) fn markdown(titles: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> = cells.map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = line(&mut titles.iter().copied());
    text.push_str(&line(&mut titles.iter().map(|_| "---")));
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Cells of a terminal: pictures take two.
fn width(text: &str) -> usize {
    if text.is_ascii() {
        return text.len();
    }
    text.chars()
        .map(|letter| match letter as u32 {
            0x0300..=0x036f | 0xfe0f | 0x200d => 0,
            0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xff00..=0xff60 => 2,
            0x2753 | 0x2b55 | 0x1f300..=0x1faff => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn tables() {
        let rows = [
            vec!["a".to_owned(), "🔒".to_owned(), "x|y".to_owned()],
            vec!["long".to_owned(), String::new(), String::new()],
        ];
        expect![[r#"
            ID    M   NAME
            a     🔒  x|y
            long
        "#]]
        .assert_eq(&plain(&["ID", "M", "NAME"], &rows, true));
        expect![[r#"
            | ID | M | NAME |
            | --- | --- | --- |
            | a | 🔒 | x\|y |
            | long |  |  |
        "#]]
        .assert_eq(&markdown(&["ID", "M", "NAME"], &rows));
    }
}
