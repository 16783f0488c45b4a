//! The last form of a piece: encrypted, with its manifest beside it, both proven and ready for the vault.

use super::{
    context::{Context, Failure, system_clock},
    inbox::Inbox,
    middle::{Made, check, convert, hand_on, open_input},
    naming::Naming,
    records::{CompressedRecord, SealedRecord, keep_file, local_manifest, read_manifest},
    retry::attempt,
};
use crate::{
    archive::{
        list::MemberList,
        manifest::{FORMAT_VERSION, Head, member_name, split},
        manifest_io::{recount, write_manifest},
        pack::{Packed as PackedList, PathField},
    },
    compress,
    durable::at,
    encrypt::{Encrypter, Sealed},
    fate::{Fate, Trouble},
    name::{Encryption, PieceName},
    notice::Step,
    staging::{Compressed, Digest, Encrypted, Packed, Piece, Shelf, read_record, write_record},
    vault::Key,
};
use std::{
    fs::File,
    io::{Seek, SeekFrom},
    sync::mpsc::{Receiver, SyncSender},
};

/// Seals what goes to the vault, as the run is configured.
pub struct Seal {
    encrypter: Option<Encrypter>,
    proves: bool,
}

impl Seal {
    /// Keys are read anew for every piece: they may expire, and be replaced, while we run for months.
    pub fn open(ctx: &Context) -> Result<Seal, Failure> {
        Ok(match &ctx.options.encrypt {
            Some(options) => {
                Seal { encrypter: Some(Encrypter::open(options, system_clock(&ctx.clock))?), proves: options.prove }
            }
            None => Seal { encrypter: None, proves: true },
        })
    }

    pub fn method(&self) -> Encryption {
        if self.encrypter.is_some() { Encryption::OpenPgp } else { Encryption::None }
    }

    /// Seals a file that is not a piece (a manifest, a listing, an index) into `gpg/`, durably, under
    /// `file_name`. Gives what it is there.
    pub fn object(
        &mut self,
        ctx: &Context,
        input: &File,
        clear: &Digest,
        file_name: &str,
    ) -> Result<Made<Sealed>, Failure> {
        let dest = ctx.staging.shelf_file::<Encrypted>(file_name);
        let tmp = format!("{file_name}.draft");
        let (draft, made) = match &mut self.encrypter {
            Some(encrypter) => convert::<_, Encrypted>(ctx, encrypter, input, clear, &tmp, self.proves)?,
            None => {
                let draft = ctx.staging.draft::<Encrypted>(&tmp)?;
                let (mut from, mut to) = (input, draft.file());
                from.seek(SeekFrom::Start(0)).map_err(at("read", &dest))?;
                std::io::copy(&mut from, &mut to).map_err(at("write", &dest))?;
                to.seek(SeekFrom::Start(0)).map_err(at("read", &dest))?;
                let sums = check(ctx, draft.file(), clear, Step::Encrypt)?;
                (draft, Made { summary: Sealed::default(), digest: clear.clone(), sums })
            }
        };
        draft.publish_as(&dest)?;
        Ok(made)
    }
}

/// Encrypts pieces, the backlog first, then the news.
pub fn run(
    ctx: &Context,
    backlog: Vec<Piece<Compressed>>,
    news: Receiver<Piece<Compressed>>,
    out: SyncSender<Piece<Encrypted>>,
) {
    Inbox::new(Step::Encrypt, backlog, news).each(ctx, |piece, patience| {
        attempt(ctx, patience, |ctx| seal_piece(ctx, piece)).then(|next| hand_on(ctx, piece, next, &out))
    });
}

fn seal_piece(ctx: &Context, piece: &Piece<Compressed>) -> Result<Piece<Encrypted>, Failure> {
    let name = piece.name();
    let compressed: CompressedRecord = read_record(&ctx.staging.list_file(name, Compressed::RECORD))?;
    ctx.timed(Step::Encrypt, name, piece.len(), 0, || {
        let mut seal = Seal::open(ctx)?;
        let input = open_input::<Compressed, Encrypted>(ctx, piece)?;
        let suffix = format!("{}{}", piece.suffix(), seal.method().suffix());
        let (draft, made) = match &mut seal.encrypter {
            Some(encrypter) => {
                let file_name = format!("{name}{suffix}");
                let (draft, made) =
                    convert::<_, Encrypted>(ctx, encrypter, &input, &compressed.made, &file_name, seal.proves)?;
                (Some(draft), made)
            }
            None => {
                let sums = check(ctx, &input, &compressed.made, Step::Encrypt)?;
                (None, Made { summary: Sealed::default(), digest: compressed.made.clone(), sums })
            }
        };
        let prefix = Naming::of(ctx, &name.source, name.pass)?.prefix(name.pass);
        let key: Key = format!("{prefix}{}{suffix}", name.short()).parse()?;
        let manifest_name = name.manifest_file(seal.method());
        let manifest_key: Key = format!("{prefix}{manifest_name}").parse()?;
        let (clear, archived) = keep_manifest(ctx, name, &key, &compressed, &made, seal.method())?;
        let manifest_file = format!("{}.{}.{manifest_name}", name.source, name.pass);
        let local = local_manifest(&ctx.options.state, name);
        let local = File::open(&local).map_err(at("open", &local))?;
        let manifest = seal.object(ctx, &local, &clear, &manifest_file)?;
        let record = SealedRecord {
            encryption: seal.method(),
            made: made.digest,
            sums: made.sums,
            header_length: made.summary.header_length,
            fingerprints: made.summary.fingerprints,
            key,
            manifest_key,
            manifest_file,
            manifest: manifest.digest,
            manifest_sums: manifest.sums,
        };
        write_record(&ctx.staging.list_file(name, Encrypted::RECORD), &record)?;
        let next = match draft {
            Some(draft) => ctx.staging.publish(draft, name, &suffix)?,
            None => ctx.staging.forward::<Compressed, Encrypted>(piece)?,
        };
        ctx.catalog.set_sealed(name, &record.row(archived))?;
        let len = next.len();
        Ok((next, len))
    })
}

/// Writes the manifest that stays on this host, reads it back, and holds its members against what the walk saw.
/// Gives its digest and the number of entries archived in it.
fn keep_manifest(
    ctx: &Context,
    name: &PieceName,
    key: &Key,
    compressed: &CompressedRecord,
    made: &Made<Sealed>,
    encryption: Encryption,
) -> Result<(Digest, u64), Failure> {
    let (packed, mut members) = MemberList::open(&ctx.staging.list_file(name, Packed::RECORD))?;
    let head = head(ctx, name, key, &packed, compressed, made, encryption)?;
    let path = local_manifest(&ctx.options.state, name);
    let digest = keep_file(&path, |out| {
        let mut zstd = compress::zstd_writer(out).map_err(at("write", &path))?;
        write_manifest(&head, &mut members, &packed, &mut zstd).map_err(at("write", &path))?;
        zstd.finish().map(drop).map_err(at("write", &path))?;
        Ok(())
    })?;

    let counted = recount(read_manifest(&path)?)?;
    let archived = counted.clean + counted.changed;
    if archived != packed.range.counts.clean + packed.range.counts.changed || !packed.range.counts.adds_up() {
        let what = format!(
            "Piece {name} does not add up: seen and accounted {:?}, in its manifest {counted:?}",
            packed.range.counts
        );
        return Err(Failure::new(Fate::Operator, Trouble::Internal, what));
    }
    Ok((digest, archived))
}

fn head(
    ctx: &Context,
    name: &PieceName,
    key: &Key,
    packed: &PackedList,
    compressed: &CompressedRecord,
    made: &Made<Sealed>,
    encryption: Encryption,
) -> Result<Head, Failure> {
    let pass = ctx.catalog.pass(&name.source, name.pass)?;
    let ends = |field: &Option<PathField>| {
        field.as_ref().and_then(PathField::get).map(|path| split(&member_name(&path))).unwrap_or_default()
    };
    let ((first, first_b64), (last, last_b64)) = (ends(&packed.range.first), ends(&packed.range.last));
    Ok(Head {
        format: FORMAT_VERSION,
        program: concat!("archiver ", env!("CARGO_PKG_VERSION")).to_owned(),
        host: ctx.host.clone(),
        source: name.source.clone(),
        source_id: Naming::of(ctx, &name.source, name.pass)?.source_id,
        pass: name.pass,
        seq: name.seq,
        key: key.to_string(),
        first,
        first_b64,
        last,
        last_b64,
        supersedes: Vec::new(),
        compression: compressed.compression,
        compression_level: compressed.level,
        encryption,
        fingerprints: made.summary.fingerprints.clone(),
        filter_sha256: pass.map(|pass| pass.filter_sha256).unwrap_or_default(),
        members: packed.range.members,
        tar_size: packed.tar_size,
        tar_sha256: packed.tar_sha256.clone(),
        compressed_size: compressed.made.len,
        compressed_sha256: compressed.made.sha256.clone(),
        sealed_size: made.digest.len,
        sealed_sha256: made.digest.sha256.clone(),
        sealed_crc64nvme: made.sums.whole().to_base64(),
        blocks: compressed.blocks.clone(),
        header_length: made.summary.header_length,
    })
}
