//! The sheet as a page for printing, complete in one file, with QR codes of what nobody wants to type: the only door to
//! `qrcode`.

use super::{
    super::Failed,
    facts::Facts,
    text::{Section, sections},
};
use qrcode::{EcLevel, QrCode, render::svg};

/// Bytes in one code.
const CODE_LEN_MAX: usize = 1_500;

const STYLE: &str = "body { font: 10pt/1.35 serif; max-width: 18cm; margin: 1cm auto; } h1 { font-size: 15pt; } \
                     h2 { font-size: 12pt; margin: 1.2em 0 .3em; } p { margin: .2em 0; } \
                     pre { font: 8pt/1.3 monospace; white-space: pre-wrap; border-left: 2pt solid #999; padding-left: 6pt; } \
                     figure { display: inline-block; margin: .3cm; break-inside: avoid; text-align: center; } \
                     figcaption { font-size: 8pt; max-width: 8cm; } svg { width: 8cm; height: 8cm; } \
                     section { break-inside: avoid; } @page { margin: 1.5cm; }";

pub fn page(facts: &Facts) -> Result<String, Failed> {
    let mut body = String::new();
    for (at, Section { title, lines }) in sections(facts).into_iter().enumerate() {
        let level = if at == 0 { "h1" } else { "h2" };
        body.push_str(&format!("<section><{level}>{}</{level}>\n", escaped(&title)));
        for line in lines {
            body.push_str(&format!("<p>{}</p>\n", escaped(&line)));
        }
        body.push_str("</section>\n");
    }
    for paragraph in &facts.commands {
        let (what, script) = (escaped(paragraph.what), escaped(&paragraph.script));
        body.push_str(&format!("<section><p>{what}:</p>\n<pre>{script}</pre></section>\n"));
    }
    body.push_str("<h2>The same as QR codes</h2>\n");
    body.push_str(&figures("Where it is, and what opens it", &whereabouts(facts))?);
    for paragraph in &facts.commands {
        body.push_str(&figures(paragraph.what, &paragraph.script)?);
    }
    let title = escaped(&format!("Recovery of {}", facts.host));
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    ))
}

/// What the first code says: the vault, and the fingerprints of its keys.
fn whereabouts(facts: &Facts) -> String {
    let vault = &facts.vault;
    let mut lines = vec![vault.url.clone()];
    lines.extend(vault.endpoint.iter().chain(&vault.region).cloned());
    lines.extend(facts.sources.iter().filter_map(|source| source.prefix.clone()));
    lines.extend(facts.keys.certificates.iter().map(|certificate| certificate.fingerprint.clone()));
    lines.join("\n")
}

/// One code, or several where it would become too fine to be read from paper.
fn figures(what: &str, text: &str) -> Result<String, Failed> {
    let parts = parts(text);
    let count = parts.len();
    let named = |at: usize| if count == 1 { what.to_owned() } else { format!("{what} ({} of {count})", at + 1) };
    parts.iter().enumerate().map(|(at, part)| figure(&named(at), part)).collect()
}

/// The text in parts of whole lines, each no longer than one code; a line that is longer is one of its own.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match parts.last_mut() {
            Some(part) if part.is_empty() => part.push_str(line),
            Some(part) if part.len() + 1 + line.len() <= CODE_LEN_MAX => part.extend(["\n", line]),
            _ => parts.push(line.to_owned()),
        }
    }
    parts
}

fn figure(what: &str, text: &str) -> Result<String, Failed> {
    // As much correction as fits; the least of it still repairs 7 %.
    let levels = [EcLevel::M, EcLevel::L];
    let code = levels.into_iter().find_map(|level| QrCode::with_error_correction_level(text, level).ok());
    let code =
        code.ok_or_else(|| Failed::new(1, format!("{what}: {} bytes are too many for a QR code", text.len())))?;
    let svg = code.render::<svg::Color<'_>>().min_dimensions(300, 300).build();
    // Inside of a page it is not a document of its own.
    let svg = svg.split_once("?>").map_or(svg.as_str(), |(_, svg)| svg);
    Ok(format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escaped(what)))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_for_one_code_becomes_several_of_whole_lines() {
        let lines: Vec<String> = (0..200).map(|n| format!("# source={n:04} {}", "x".repeat(n % 90))).collect();
        let text = lines.join("\n");
        let parts = parts(&text);
        assert!(parts.len() > 5 && parts.iter().all(|part| part.len() <= CODE_LEN_MAX), "{}", parts.len());
        assert_eq!(parts.join("\n"), text);
        let page = figures("names", &text).unwrap();
        assert_eq!(page.matches("<svg ").count(), parts.len());
        assert!(page.contains(&format!("names ({} of {})", parts.len(), parts.len())));
        assert_eq!(figures("names", "short").unwrap().matches("<figcaption>names</figcaption>").count(), 1);
        let longest = figures("names", &"x".repeat(4_000)).unwrap_err();
        assert!(longest.what.contains("too many"), "{}", longest.what);
    }
}
