//! The compressor: as many pieces side by side as cores and memory allow.

use super::{
    context::{Context, Failure},
    inbox::Inbox,
    middle::{check, convert, hand_on, open_input, resumed_at},
    records::CompressedRecord,
    retry::{Outcome, attempt, persist},
    stages,
};
use crate::{
    archive::list::MemberList,
    compress::{Blocks, Compressor},
    name::Compression,
    notice::Step,
    staging::{Compressed, Digest, Packed, Piece, Shelf, read_record, write_record},
};
use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender},
    },
    thread,
};

/// Compresses pieces, the backlog first, then the news: as many side by side as threads and memory allow, so that no
/// core waits for the last block of a piece, or for its proof. They may come out in another order than they went in.
/// With other options all of them begin anew: they share cores and memory.
pub fn run(
    ctx: &Context,
    backlog: Vec<Piece<Packed>>,
    news: Receiver<Piece<Packed>>,
    out: SyncSender<Piece<Compressed>>,
) {
    let inbox = Inbox::new(Step::Compress, backlog, news);
    loop {
        let begun = persist(ctx, |ctx| Ok((ctx.clone(), Compressor::new(&ctx.options.compress)?)));
        let Outcome::Done((ctx, first)) = begun else { return };
        // Once other options were seen, every lane ends, whatever is configured by then.
        let is_over = AtomicBool::new(false);
        let holds = || {
            if ctx.renewed().options.compress != ctx.options.compress {
                is_over.store(true, Ordering::Relaxed);
            }
            !is_over.load(Ordering::Relaxed)
        };
        let (ctx, inbox, holds) = (&ctx, &inbox, &holds);
        // This thread only waits for the lanes.
        ctx.stop.rest();
        thread::scope(|scope| {
            for lane in 0..first.lanes() {
                let (mut compressor, out) = (first.twin(), out.clone());
                let own = ctx.watched(stages::COMPRESSOR);
                let started = stages::start_within(ctx, scope, stages::COMPRESSOR, move || {
                    inbox.each_while(&own, holds, |piece, patience| {
                        // The method and the level are those of the compressor, whatever holds by now.
                        attempt(&own, patience, |_| compress_piece(&own, &mut compressor, piece))
                            .then(|next| hand_on(&own, piece, next, &out))
                    });
                });
                if !started && lane == 0 {
                    stages::cannot_start(ctx);
                }
            }
        });
        if ctx.is_stopping() || !is_over.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn compress_piece(
    ctx: &Context,
    compressor: &mut Compressor,
    piece: &Piece<Packed>,
) -> Result<Piece<Compressed>, Failure> {
    let name = piece.name();
    let (packed, _) = MemberList::open(&ctx.staging.list_file(name, Packed::RECORD))?;
    let clear = Digest { len: packed.tar_size, sha256: packed.tar_sha256 };
    let options = &ctx.options.compress;
    let file_name = format!("{name}.tar{}", options.method.suffix());
    let record_path = ctx.staging.list_file(name, Compressed::RECORD);
    let record = |made, blocks| CompressedRecord {
        compression: options.method,
        level: (options.method != Compression::None).then_some(options.level),
        clear: clear.clone(),
        made,
        blocks,
    };
    ctx.timed(Step::Compress, name, piece.len(), resumed_at(ctx, &file_name), || {
        let input = open_input::<Packed, Compressed>(ctx, piece)?;
        let next = if options.method == Compression::None {
            check(ctx, &input, &clear, Step::Compress)?;
            write_record(&record_path, &record(clear.clone(), vec![[0, 0]]))?;
            ctx.staging.forward::<Packed, Compressed>(piece)?
        } else {
            let (draft, made) = convert::<_, Compressed>(ctx, compressor, &input, &clear, &file_name, true)?;
            let Blocks { blocks } = made.summary;
            write_record(&record_path, &record(made.digest, blocks))?;
            ctx.staging.publish(draft, name, &format!(".tar{}", options.method.suffix()))?
        };
        ctx.catalog.set_compressed(name, &read_record::<CompressedRecord>(&record_path)?.row())?;
        let len = next.len();
        Ok((next, len))
    })
}
