//! Two texts line by line.

/// The lines that differ, each with up to three lines around it: ` ` stays, `-` goes, `+` comes.
pub(crate) fn lines(before: &str, after: &str) -> String {
    const AROUND: usize = 3;
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    // How many lines the rests have in common, in order.
    let mut common = vec![vec![0_u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            common[i][j] = if a[i] == b[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut all = Vec::new();
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            all.push((' ', a[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || common[i + 1][j] >= common[i][j + 1]) {
            all.push(('-', a[i]));
            i += 1;
        } else {
            all.push(('+', b[j]));
            j += 1;
        }
    }
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        all[from..all.len().min(at + AROUND + 1)].iter().any(|(mark, _)| *mark != ' ')
    };
    let mut text = String::new();
    let mut gap = false;
    for (at, (mark, line)) in all.iter().enumerate() {
        if near(at) {
            if std::mem::take(&mut gap) && !text.is_empty() {
                text.push_str(" …\n");
            }
            text.push_str(&format!("{mark} {line}\n"));
        } else {
            gap = true;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn differences() {
        expect![[r#"
              5
              6
              7
            - 8
            + x
              9
        "#]]
        .assert_eq(&lines("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\nx\n9\n"));
        assert_eq!(lines("a\n", "a\n"), "");
        assert_eq!(lines("", "a\n"), "+ a\n");
    }
}
