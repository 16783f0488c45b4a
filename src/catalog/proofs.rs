//! When pieces were last proven, and in which way; and when a drill last opened one with the secret key.

use super::{Catalog, Result, error::Fail, passes, row};
use crate::name::{PassId, PieceName, SourceName};
use jiff::Timestamp;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};

/// Setting: when a drill last worked.
const DRILL: &str = "drill";

/// How a piece was proven. Each says more than the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proven {
    /// The vault says that it holds the piece, with the size and the checksum that it was stored with.
    Listed,
    /// The vault has read all of it and computed its checksum anew.
    Hashed,
    /// It was fetched, opened, and every member was compared with its manifest.
    Opened,
}

impl Proven {
    const ALL: [Proven; 3] = [Proven::Listed, Proven::Hashed, Proven::Opened];

    pub fn as_str(self) -> &'static str {
        match self {
            Proven::Listed => "listed",
            Proven::Hashed => "hashed",
            Proven::Opened => "opened",
        }
    }
}

impl ToSql for Proven {
    fn to_sql(&self) -> std::result::Result<ToSqlOutput<'_>, rusqlite::Error> {
        Ok(self.as_str().into())
    }
}

impl FromSql for Proven {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Proven> {
        let text = value.as_str()?;
        Proven::ALL.into_iter().find(|how| how.as_str() == text).ok_or(FromSqlError::InvalidType)
    }
}

/// The last proof of a piece in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    pub seq: u32,
    pub how: Proven,
    pub at: Timestamp,
}

impl Catalog {
    /// Records that pieces of a pass were proven; of each way the last time is kept. Of a piece that is not delivered
    /// there is nothing to prove.
    pub fn set_proofs(
        &self,
        source: &SourceName,
        pass: PassId,
        seqs: &[u32],
        how: Proven,
        at: Timestamp,
    ) -> Result<()> {
        self.write("record a proof in", |tx| {
            passes::must_find(tx, source, pass)?;
            let mut delivered = tx.prepare_cached(
                "SELECT count(*) FROM piece WHERE source = ?1 AND pass = ?2 AND seq = ?3 AND state = 'delivered'",
            )?;
            let mut set =
                tx.prepare_cached("INSERT INTO proof VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO UPDATE SET at = ?5")?;
            let pass = pass.to_string();
            for seq in seqs {
                if delivered.query_row((source.as_str(), &pass, seq), |row| row.get::<_, u32>(0))? == 0 {
                    let why = format!("piece {seq:06} of pass {pass} of {source} is not delivered");
                    return Err(Fail::Refused(why));
                }
                set.execute((source.as_str(), &pass, seq, how, at.to_string()))?;
            }
            Ok(())
        })
    }

    /// Records that one piece was proven.
    pub fn set_proof(&self, name: &PieceName, how: Proven, at: Timestamp) -> Result<()> {
        self.set_proofs(&name.source, name.pass, &[name.seq], how, at)
    }

    /// The last proof of each piece in each way, by seq.
    pub fn proofs(&self, source: &SourceName, pass: PassId) -> Result<Vec<Proof>> {
        self.read("read proofs in", |conn| {
            conn.prepare_cached("SELECT seq, how, at FROM proof WHERE source = ?1 AND pass = ?2 ORDER BY seq, how")?
                .query_map((source.as_str(), pass.to_string()), |row| {
                    Ok(Proof { seq: row.get("seq")?, how: row.get("how")?, at: row::parsed(row, "at")? })
                })?
                .collect()
        })
    }

    /// When a drill last worked.
    pub fn drill(&self) -> Result<Option<Timestamp>> {
        // What is no time tells nothing of a drill; the next one that works writes it anew.
        Ok(self.setting(DRILL)?.and_then(|at| at.parse().ok()))
    }

    pub fn set_drill(&self, at: Timestamp) -> Result<()> {
        self.set_setting(DRILL, &at.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{begun, deliver, packed, pass, refused, source, time},
        *,
    };
    use jiff::SignedDuration;

    fn catalog() -> (tempfile::TempDir, Catalog) {
        begun(&[packed(1, "a", "b"), packed(2, "c", "d"), packed(3, "e", "f")])
    }

    #[test]
    fn of_each_way_the_last_proof_is_kept() {
        let (_dir, catalog) = catalog();
        let second = packed(2, "c", "d").name;
        deliver(&catalog, &packed(1, "a", "b").name);
        deliver(&catalog, &second);
        let later = time() + SignedDuration::from_hours(1);
        catalog.set_proofs(&source(), pass(), &[1, 2], Proven::Listed, time()).unwrap();
        catalog.set_proof(&second, Proven::Opened, time()).unwrap();
        catalog.set_proof(&second, Proven::Listed, later).unwrap();
        let expected = [
            Proof { seq: 1, how: Proven::Listed, at: time() },
            Proof { seq: 2, how: Proven::Listed, at: later },
            Proof { seq: 2, how: Proven::Opened, at: time() },
        ];
        assert_eq!(catalog.proofs(&source(), pass()).unwrap(), expected);
        let file = catalog.file().to_owned();
        drop(catalog);
        assert_eq!(Catalog::open_read_only(&file).unwrap().proofs(&source(), pass()).unwrap(), expected);
    }

    #[test]
    fn what_is_not_delivered_is_not_proven_and_of_several_all_or_none_are() {
        let (_dir, catalog) = catalog();
        deliver(&catalog, &packed(1, "a", "b").name);
        for seqs in [&[1, 2][..], &[9]] {
            let why = refused(catalog.set_proofs(&source(), pass(), seqs, Proven::Hashed, time()));
            assert!(why.contains("is not delivered"), "{why}");
        }
        assert_eq!(catalog.proofs(&source(), pass()).unwrap(), []);
        refused(catalog.set_proofs(&"other".parse().unwrap(), pass(), &[1], Proven::Hashed, time()));
    }

    #[test]
    fn a_drill_is_remembered() {
        let (_dir, catalog) = catalog();
        assert_eq!(catalog.drill().unwrap(), None);
        catalog.set_drill(time()).unwrap();
        assert_eq!(catalog.drill().unwrap(), Some(time()));
        catalog.set_setting(DRILL, "yesterday").unwrap();
        assert_eq!(catalog.drill().unwrap(), None);
    }
}
