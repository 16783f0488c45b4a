//! The server as a program, for tests that run whole programs against it.

use archiver_s3_double::{ACCESS_KEY, Double, Key, Options, SECRET_KEY, Thaw};
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

const USAGE: &str = "\
usage: s3-double [OPTION…]
  --listen ADDRESS:PORT   where to listen; port 0 is any that is free (127.0.0.1:0)
  --bucket NAME           a bucket that exists from the start; may be given more than once
  --key ACCESS:SECRET     a key that may sign; may be given more than once (that of the library)
  --script FILE           rules, JSON, one per line; read again on SIGHUP and whenever the file changes
  --persona JSON          what the server lacks, e.g. '{\"no_checksums\": true}'
  --min-part BYTES        the smallest part but the last (5242880)
  --thaw SECONDS          how long thaws take, in any tier (12 hours, Bulk 48)
  --directory DIRECTORY   where large objects are kept while it runs (a temporary directory)
  --persist               what is stored there is found again by the next server
  --memory BYTES          what stays in memory (1048576)
  --stdin                 also stop when standard input ends
It prints `listening on http://…` and stops on SIGTERM or SIGINT.
";

/// How often the script is looked at.
const LOOK: Duration = Duration::from_millis(100);

struct Arguments {
    options: Options,
    script: Option<PathBuf>,
    until_stdin_ends: bool,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("s3-double: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("s3-double: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let mut options = Options { buckets: Vec::new(), keys: Vec::new(), ..Options::default() };
    let mut arguments = Arguments { options: Options::default(), script: None, until_stdin_ends: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--stdin" => {
                arguments.until_stdin_ends = true;
                continue;
            }
            "--persist" => {
                options.persist = true;
                continue;
            }
            _ => (),
        }
        let value = words.next().ok_or_else(|| format!("{word}: unknown, or its value is missing"))?;
        match word.as_str() {
            "--listen" => options.listen = value,
            "--bucket" => options.buckets.push(value),
            "--key" => {
                let (access, secret) = value.split_once(':').ok_or("--key wants ACCESS:SECRET")?;
                options.keys.push(Key::new(access, secret));
            }
            "--script" => arguments.script = Some(value.into()),
            "--persona" => options.persona = serde_json::from_str(&value)?,
            "--min-part" => options.min_part_size = value.parse()?,
            "--thaw" => {
                let takes = Duration::from_secs_f64(value.parse()?);
                options.thaw = Thaw { standard: takes, bulk: takes };
            }
            "--directory" => options.directory = Some(value.into()),
            "--memory" => options.memory_max = value.parse()?,
            _ => return Err(format!("{word}: unknown").into()),
        }
    }
    if options.persist && options.directory.is_none() {
        return Err("--persist wants --directory too".into());
    }
    if options.keys.is_empty() {
        options.keys.push(Key::new(ACCESS_KEY, SECRET_KEY));
    }
    arguments.options = options;
    Ok(arguments)
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(directory) = &arguments.options.directory {
        std::fs::create_dir_all(directory)?;
    }
    let double = Double::try_spawn(arguments.options)?;
    if let Some(script) = &arguments.script {
        load(&double, script);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, stdin_ended) = oneshot::channel();
    let mut kept = Some(ended);
    if arguments.until_stdin_ends {
        let ended = kept.take();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            drop(ended);
        });
    }
    runtime.block_on(until_told(&double, arguments.script.as_deref(), stdin_ended))
}

/// Until a signal comes, or nobody is left who could say that standard input goes on.
async fn until_told(
    double: &Double,
    script: Option<&Path>,
    mut stdin_ended: oneshot::Receiver<()>,
) -> Result<(), Box<dyn Error>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let mut hup = signal(SignalKind::hangup())?;
    let mut seen = script.and_then(changed);
    // Whoever reads this may send a signal at once.
    println!("listening on {}", double.endpoint());
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = int.recv() => return Ok(()),
            _ = &mut stdin_ended => return Ok(()),
            _ = hup.recv() => if let Some(script) = script {
                load(double, script);
            },
            () = tokio::time::sleep(LOOK) => if let Some(script) = script && changed(script) != seen {
                seen = changed(script);
                load(double, script);
            },
        }
    }
}

fn changed(script: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(script).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The rules of the file take the place of all rules. With a mistake in it the old ones stay, so that half a script
/// never runs.
fn load(double: &Double, script: &Path) {
    let loaded = std::fs::read_to_string(script).map_err(|error| error.to_string());
    match loaded.and_then(|text| double.replace_script(&text)) {
        Ok(count) => eprintln!("s3-double: {count} rules from {}", script.display()),
        Err(problem) => eprintln!("s3-double: {}: {problem}", script.display()),
    }
}
