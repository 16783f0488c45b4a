//! Uploads one file to S3 as the daemon does, for measuring: `upload ENDPOINT BUCKET KEY FILE PART_SIZE CONCURRENCY`.
//! Keys come from the environment. The checksums of the file, which the daemon records when it makes one, are taken from
//! `FILE.sums`, which is made by the first run.

use archiver::{
    pipeline::AlwaysOpen,
    upload::{Ledger, LedgerError, Options, Parcel, Retries, Uploader},
    vault::{
        Key, ObjectSpec,
        checksum::{BlockSummer, BlockSums},
        s3::{self, Identity, Patience, S3Vault},
    },
};
use std::{
    env,
    error::Error,
    fs::{self, File},
    io,
    path::PathBuf,
    sync::Arc,
};
use tokio_util::sync::CancellationToken;

/// Nothing goes on after this program.
struct Forgetful;

impl Ledger for Forgetful {
    fn load(&self, _: &Key) -> Result<Option<String>, LedgerError> {
        Ok(None)
    }
    fn save(&self, _: &Key, _: &str) -> Result<(), LedgerError> {
        Ok(())
    }
    fn forget(&self, _: &Key) -> Result<(), LedgerError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [endpoint, bucket, key, file, part_size, concurrency] = &args[..] else {
        return Err("usage: upload ENDPOINT BUCKET KEY FILE PART_SIZE CONCURRENCY".into());
    };
    let file = PathBuf::from(file);
    let record = file.with_added_extension("sums");
    if !record.exists() {
        let mut summer = BlockSummer::new();
        io::copy(&mut File::open(&file)?, &mut summer)?;
        fs::write(&record, serde_json::to_vec(&summer.finish())?)?;
    }
    let sums: BlockSums = serde_json::from_slice(&fs::read(&record)?)?;
    let spec = ObjectSpec {
        size: sums.len(),
        crc64: sums.whole(),
        part_size: 0,
        storage_class: "STANDARD".into(),
        metadata: Default::default(),
    };
    let parcel = Parcel { key: key.parse()?, file, spec, sums };
    let options = s3::Options {
        bucket: bucket.clone(),
        prefix: String::new(),
        region: env::var("AWS_REGION").ok(),
        endpoint_url: Some(endpoint.clone()),
        path_style: true,
        identity: Identity::Chain,
        patience: Patience::default(),
    };
    let upload = Options {
        part_size: part_size.parse()?,
        concurrency: concurrency.parse()?,
        retries: Retries::default(),
        bandwidth: None,
    };
    // As the daemon's.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let vault = Arc::new(S3Vault::open(options).await);
        let uploader = Uploader::new(vault, Arc::new(Forgetful), Arc::new(AlwaysOpen), upload);
        uploader.deliver(&parcel, &CancellationToken::new(), &|_| {}).await
    })?;
    Ok(())
}
