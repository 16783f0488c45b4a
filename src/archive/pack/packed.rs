//! What is recorded of a piece: while it is being packed ([`Mark`]), and when it is whole ([`Packed`]).

use crate::{
    archive::{
        entry::Entry,
        manifest::{Counts, ExceptionLine, Member, Segment, join, member_name, split},
    },
    path::SourcePath,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use sha2::{
    Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};

/// Version of both records; a reader refuses what is newer.
pub const RECORD_VERSION: u32 = 1;

/// A path as records hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathField {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    path_b64: Option<String>,
}

impl PathField {
    /// `None` when the record is damaged.
    pub fn get(&self) -> Option<SourcePath> {
        SourcePath::parse(&join(&self.path, &self.path_b64)?).ok()
    }
}

impl From<&SourcePath> for PathField {
    fn from(path: &SourcePath) -> PathField {
        let (path, path_b64) = split(&member_name(path));
        PathField { path, path_b64 }
    }
}

/// What a range of the walk came to, so far or in the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// In the tar, without ancestors.
    pub members: u64,
    pub counts: Counts,
    /// In the order of the walk.
    pub exceptions: Vec<ExceptionLine>,
    /// Of the first and the last member, without ancestors; of a segment the file's. Absent when nothing could be archived.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub first: Option<PathField>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<PathField>,
    /// Of the last item that was consumed: the next piece begins after it. Absent when there was none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub position: Option<PathField>,
}

/// A place from which packing can go on: tar and list are durable up to it, and every item before it is consumed.
/// It stands between two members or in the data of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub version: u32,
    /// Bytes.
    pub tar_len: u64,
    /// Of these bytes.
    pub tar_sha256: String,
    /// Bytes.
    pub list_len: u64,
    /// Of these bytes.
    pub list_sha256: String,
    pub range: Range,
    /// Of the last item of the plan: the plan for going on are the items after `range.position` up to here, beginning
    /// with the member's file if there is one, or the segment that the member is.
    pub plan_last: PathField,
    /// The member that comes next and must not be begun from nothing. Absent between members.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub member: Option<MemberMark>,
    /// Time spent so far, milliseconds.
    pub took_ms: u64,
}

impl Mark {
    /// How far the walk was consumed, or where it goes on when nothing was.
    pub fn place(&self) -> Option<SourcePath> {
        let position = self.range.position.as_ref().and_then(PathField::get);
        position.or_else(|| Some(self.member.as_ref()?.file.path.clone()))
    }
}

/// A file, or a segment of one, that is being read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberMark {
    /// As it is in the header; of a segment as fixed with the first.
    pub file: Entry,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<Segment>,
    /// Of the file or the segment, bytes.
    pub len: u64,
    /// How often it was begun again because the file changed or failed.
    pub tries: u32,
    /// Absent when it is to be read from its beginning.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub copied: Option<Copied>,
}

/// What is in the tar of a member that is being read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Copied {
    /// Its line; digests and notes are still to come.
    pub member: Member,
    /// What was wrong with its metadata.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub troubles: Vec<ExceptionLine>,
    /// Of the tar before the member's header.
    pub tar_state: HashState,
    /// Of the tar, behind the member's header: where a sparse member has its map.
    pub map_offset: u64,
    pub is_sparse: bool,
    /// Bytes of the file or the segment that are in the tar, holes among them.
    pub len: u64,
    /// Of these bytes.
    pub sha256_state: HashState,
    /// Of all bytes of the file before them as well, where that is known of a segment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file_sha256_state: Option<HashState>,
    /// Of these bytes, how many are zeros because they were not to be had.
    pub lost: u64,
    /// Where in the file the first of them is, and the system's error; without one the file came short.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<(u64, Option<i32>)>,
}

/// The state of a SHA-256 that is to take more bytes, in base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HashState(String);

impl HashState {
    /// `None` when the record is damaged.
    pub fn hasher(&self) -> Option<Sha256> {
        let bytes = BASE64.decode(&self.0).ok()?;
        let state = SerializedState::<Sha256>::try_from(bytes.as_slice()).ok()?;
        Sha256::deserialize(&state).ok()
    }
}

impl From<&Sha256> for HashState {
    fn from(hasher: &Sha256) -> HashState {
        HashState(BASE64.encode(hasher.serialize()))
    }
}

/// Everything that must be known of a packed piece. It is also the last line of the member list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packed {
    pub version: u32,
    /// Bytes.
    pub tar_size: u64,
    pub tar_sha256: String,
    /// Of all bytes of the member list before the line of this record.
    pub list_sha256: String,
    pub range: Range,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub segment: Option<Segment>,
    /// To be handed to the packing of the next segment of the same file; absent after the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub chain: Option<SegmentChain>,
    /// Time spent, milliseconds.
    pub took_ms: u64,
}

/// What the next segment of a file must know of those before it: the state of the hash over the whole file, and
/// whether any of them was not clean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentChain {
    file: PathField,
    /// Index of the segment that goes on from here.
    next: u32,
    /// Absent when an earlier segment was packed without its chain.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sha256_state: Option<HashState>,
    pub changed: bool,
    pub damaged: bool,
}

impl SegmentChain {
    pub fn new(file: &SourcePath, next: u32, hasher: Option<&Sha256>, changed: bool, damaged: bool) -> SegmentChain {
        SegmentChain { file: file.into(), next, sha256_state: hasher.map(HashState::from), changed, damaged }
    }

    /// Whether this is for segment `index` of `file`.
    pub fn fits(&self, file: &SourcePath, index: u32) -> bool {
        self.next == index && self.file.get().as_ref() == Some(file)
    }

    /// The hasher that has taken all segments before; `None` when it is not known.
    pub fn hasher(&self) -> Option<Sha256> {
        self.sha256_state.as_ref()?.hasher()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::Digest;

    #[test]
    fn a_hash_goes_on_from_its_record() {
        let path = SourcePath::parse(b"a/\xff").unwrap();
        for cut in [0, 1, 63, 64, 65, 1000] {
            let data = vec![7u8; 1000];
            let chain = SegmentChain::new(&path, 2, Some(&Sha256::new().chain_update(&data[..cut])), false, false);
            let chain: SegmentChain = serde_json::from_str(&serde_json::to_string(&chain).unwrap()).unwrap();
            assert!(chain.fits(&path, 2) && !chain.fits(&path, 1) && !chain.fits(&SourcePath::root(), 2));
            let hasher = chain.hasher().unwrap().chain_update(&data[cut..]);
            assert_eq!(hasher.finalize(), Sha256::digest(&data), "{cut}");
        }
    }

    #[test]
    fn a_damaged_state_is_no_hasher() {
        let mut chain = SegmentChain::new(&SourcePath::root(), 2, Some(&Sha256::new()), false, false);
        chain.sha256_state = Some(HashState("AAAA".to_owned()));
        assert!(chain.hasher().is_none());
    }
}
