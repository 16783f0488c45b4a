//! Just enough of Rust's grammar to read source by rules: comments, literals, words, braces.

pub fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where a whole word stands.
pub fn words_at<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// Where the body of an item begins, or the `;` that it has instead. Arrays have semicolons too.
pub fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    code[from..].char_indices().find_map(|(at, c)| {
        depth += i32::from(matches!(c, '(' | '[')) - i32::from(matches!(c, ')' | ']'));
        (depth == 0 && matches!(c, '{' | ';')).then_some(from + at)
    })
}

/// What `crate::…` names, alone or in braces, with lines.
pub fn uses(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut name = |at: usize| {
        let rest = code[at..].trim_start();
        let room: String = rest.chars().take_while(|c| is_word(*c)).collect();
        found.push((line(code, code.len() - rest.len()), room));
    };
    for at in words_at(code, "crate").filter(|at| code[at + 5..].starts_with("::")) {
        let at = at + "crate::".len();
        let Some(end) = code[at..].starts_with('{').then(|| closing(code, at)).flatten() else {
            name(at);
            continue;
        };
        let mut depth = 0;
        for (inner, c) in code[at..end].char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 1 && (c == '{' || c == ',') {
                name(at + inner + 1);
            }
        }
    }
    found
}

/// The brace that closes the one at `open`; `open` itself for a `;`.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    code[open..].char_indices().find_map(|(at, c)| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        (depth == 0).then_some(open + at)
    })
}

pub fn without_tests(code: &str) -> String {
    let mut rest = code.to_owned();
    while let Some(at) = rest.find("#[cfg(test)]") {
        let end = body(&rest, at).and_then(|open| closing(&rest, open)).unwrap_or(rest.len() - 1);
        let blanked: String = rest[at..=end].chars().map(|c| if c == '\n' { c } else { ' ' }).collect();
        rest.replace_range(at..=end, &blanked);
    }
    rest
}

/// The text with every character of comments, strings and character literals as a space.
pub fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\n');
    let find = |from: usize, is_end: &dyn Fn(usize) -> bool| (from..chars.len()).find(|at| is_end(*at));
    let (mut code, mut at) = (String::with_capacity(text.len()), 0);
    while at < chars.len() {
        let after_word = at > 0 && is_word(get(at - 1)) && !matches!(get(at - 1), 'b' | 'c');
        let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
        let end = match (get(at), get(at + 1)) {
            ('/', '/') => find(at, &|at| get(at) == '\n'),
            ('/', '*') => find(at + 3, &|at| get(at - 1) == '*' && get(at) == '/').map(|at| at + 1),
            ('r', _) if !after_word && get(at + 1 + hashes) == '"' => {
                let is_end = |at: usize| get(at) == '"' && (1..=hashes).all(|hash| get(at + hash) == '#');
                find(at + 2 + hashes, &is_end).map(|at| at + 1 + hashes)
            }
            ('"', _) => Some(quoted(&chars, at)),
            ('\'', '\\') => Some(quoted(&chars, at)),
            // Everything else that begins with a quote is a lifetime.
            ('\'', _) if get(at + 2) == '\'' => Some(at + 3),
            (c, _) => {
                code.push(c);
                at += 1;
                continue;
            }
        };
        let end = end.unwrap_or(chars.len()).min(chars.len());
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// The end of a literal that begins at `at`, by its own quote.
fn quoted(chars: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < chars.len() && chars[end] != chars[at] {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    end + 1
}
