//! Finding n-grams again: the table of a trained model.
//!
//! It is the sorted hashes of each block, with an index by their top bits: a
//! probe reads one index entry and about one cache line of hashes, in place in
//! the model file. A feature's row is its rank.

/// How many top bits index a block of `features` hashes: 2 to 4 hashes a bucket.
pub fn bucket_bits(features: usize) -> u32 {
    let mut bits = 0;
    while (4usize << bits) < features {
        bits += 1;
    }
    bits
}

/// Where the hashes of each bucket begin: 2^bits + 1 entries.
pub fn buckets(hashes: &[u64]) -> Vec<u32> {
    let bits = bucket_bits(hashes.len());
    let mut begins = vec![0u32; (1 << bits) + 1];
    for &hash in hashes {
        begins[bucket(hash, bits) + 1] += 1;
    }
    for i in 1..begins.len() {
        begins[i] += begins[i - 1];
    }
    begins
}

/// Two tables of sorted hashes, with a count of each, as one: counts of the same hash are added.
pub fn merge(first: (&[u64], &[u32]), second: (&[u64], &[u32])) -> (Vec<u64>, Vec<u32>) {
    let most = first.0.len() + second.0.len();
    let (mut hashes, mut counts) = (Vec::with_capacity(most), Vec::with_capacity(most));
    let (mut i, mut j) = (0, 0);
    while i < first.0.len() || j < second.0.len() {
        let (a, b) = (first.0.get(i), second.0.get(j));
        let (one, other) = (a.is_some() && (b.is_none() || a <= b), b.is_some() && (a.is_none() || b <= a));
        hashes.extend(if one { a } else { b });
        let count = |yes: bool, counts: &[u32], at: usize| if yes { counts[at] } else { 0 };
        counts.push(count(one, first.1, i).saturating_add(count(other, second.1, j)));
        (i, j) = (i + usize::from(one), j + usize::from(other));
    }
    (hashes, counts)
}

/// The bucket of a hash.
#[inline(always)]
pub fn bucket(hash: u64, bits: u32) -> usize {
    // A shift by 64 is not a shift: no bits, one bucket.
    (hash >> 1 >> (63 - bits)) as usize
}

/// Hashes compared at once: more than most buckets hold.
const WINDOW: usize = 8;

/// The seen n-grams of one block, as they stand in the model file.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    /// Sorted.
    pub hashes: &'a [u64],
    /// As `buckets` makes them. Nothing read from it is trusted.
    pub buckets: &'a [u32],
    /// Of each hash.
    pub document_frequency: &'a [u32],
}

impl Table<'_> {
    /// The rank of a hash, if it was seen.
    #[inline(always)]
    pub fn find(&self, hash: u64, bits: u32) -> Option<u32> {
        let bucket = bucket(hash, bits);
        let mut begin = *self.buckets.get(bucket)? as usize;
        // Hashes rise: the rank is told by how many are smaller, without a branch that
        // depends on where in its bucket a hash stands.
        while let Some(window) = self.hashes.get(begin..).and_then(<[u64]>::first_chunk::<WINDOW>) {
            let smaller = window.iter().map(|&known| usize::from(known < hash)).sum::<usize>();
            if smaller < WINDOW {
                return (window[smaller] == hash).then_some((begin + smaller) as u32);
            }
            begin += WINDOW;
            if begin >= *self.buckets.get(bucket + 1)? as usize {
                return None;
            }
        }
        let rest = self.hashes.get(begin..)?;
        rest.iter().position(|&known| known == hash).map(|at| (begin + at) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_counts_add_up() {
        let merged = merge((&[1, 5, 9], &[1, 2, 3]), (&[0, 5, 10], &[7, u32::MAX, 1]));
        assert_eq!(merged, (vec![0, 1, 5, 9, 10], vec![7, 1, u32::MAX, 3, 1]));
        assert_eq!(merge((&[], &[]), (&[2], &[1])), (vec![2], vec![1]));
        assert_eq!(merge((&[2], &[1]), (&[], &[])), (vec![2], vec![1]));
    }

    #[test]
    fn table_finds_what_it_holds_and_nothing_else() {
        for n in [0usize, 1, 4, 5, 1000] {
            let mut hashes: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
            hashes.sort_unstable();
            let begins = buckets(&hashes);
            let table = Table { hashes: &hashes, buckets: &begins, document_frequency: &[] };
            let bits = bucket_bits(n);
            for (rank, &hash) in hashes.iter().enumerate() {
                assert_eq!(table.find(hash, bits), Some(rank as u32));
                assert_eq!(table.find(hash + 1, bits), None);
            }
            // A table whose index lies finds nothing, or too little, and does not crash.
            for lie in [0, n as u32 / 2, n as u32, u32::MAX] {
                let lying = vec![lie; begins.len()];
                assert_eq!(Table { buckets: &lying, ..table }.find(5, bits), None);
            }
        }
    }
}
