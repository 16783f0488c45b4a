use super::*;
use crate::{
    notice::{Reason, Step},
    path::SourcePath,
};
use std::io::Write;

/// What is written while something happens.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines(to: Sink, happens: impl FnOnce(&LogMonitor)) -> Vec<String> {
    let paper = Paper::default();
    let written = paper.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(move || paper.clone()).with_ansi(false);
    let monitor = LogMonitor { to, began: Instant::now(), limits: Arc::default() };
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || happens(&monitor));
    let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    // Lines as a terminal would see them.
    text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn lost(path: &[u8]) -> Notice {
    let path = SourcePath::parse(path).unwrap();
    let exception = Exception { path, reason: Reason::Denied, errno: Some(13), detail: "Permission denied".to_owned() };
    Notice::EntryException { source: "data".to_owned(), exception }
}

#[test]
fn a_hundred_thousand_exceptions_are_a_hundred_lines_and_their_number() {
    let told = lines(Sink::Lines, |log| {
        (0..100_000).for_each(|n| log.notice(&lost(format!("{n}").as_bytes())));
        log.notice(&Notice::Stopping { why: "SIGTERM".to_owned() });
    });
    // A slow machine may begin a second minute.
    assert!((102..=202).contains(&told.len()), "{}", told.len());
    let more: Vec<&String> = told.iter().filter(|line| line.contains("More like this")).collect();
    let number = |line: &String| line.rsplit_once("count=").unwrap().1.parse::<usize>().unwrap();
    assert!(more.iter().all(|line| line.contains("like=\"entry-lost\"")), "{more:?}");
    assert_eq!(
        more.into_iter().map(number).sum::<usize>() + told.iter().filter(|line| line.contains("path=")).count(),
        100_000
    );
    assert!(told.last().unwrap().contains("SIGTERM"));
}

#[test]
fn no_name_breaks_a_line_or_moves_a_cursor() {
    let name = b"a\nERROR forged\x1b[2J\r\xff\xe2\x80\xaeb\xe2\x80\xa8c\xc2\x9b";
    let path = SourcePath::parse(name).unwrap();
    let text = String::from_utf8_lossy(name).into_owned();
    for to in [Sink::Lines, Sink::Journal] {
        let told = lines(to, |log| {
            log.notice(&lost(name));
            log.notice(&Notice::StandsStill { source: "data".into(), path: path.clone(), since: "now".into() });
            log.notice(&Notice::Trouble { trouble: crate::fate::Trouble::Vault, what: text.clone(), retry_in: None });
            log.notice(&Notice::PassHeld { source: "data".into(), why: text.clone() });
            log.notice(&Notice::SettingsRefused { why: text.clone() });
        });
        assert_eq!(told.len(), 5, "{told:#?}");
        for line in told {
            // In the journal the message is what is shown; fields are kept as they are.
            let odd = |c: char| c.is_control() || matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}');
            assert!(!line.contains(odd), "{line:?}");
        }
    }
}

#[test]
fn the_life_of_a_piece_has_fields_for_the_journal() {
    let piece: crate::name::PieceName = "data.20261120T200000Z.000017-x".parse().unwrap();
    let told = lines(Sink::Journal, |log| {
        log.notice(&Notice::StepEnded {
            step: Step::Upload,
            piece: piece.clone(),
            input_len: 10,
            output_len: 7,
            took: Duration::from_secs(1),
        });
        log.notice(&Notice::PieceRotten { piece: piece.clone(), why: "x".to_owned() });
    });
    let fields =
        ["EVENT=\"step-ended\"", "MESSAGE_ID=\"", "stage=\"upload\"", "source=\"data\"", "bytes=7", "piece_id=\""];
    assert!(fields.iter().all(|field| told[0].contains(field)), "{}", told[0]);
    assert!(told.iter().all(|line| line.contains(&format!("piece={piece}"))), "{told:?}");
}
