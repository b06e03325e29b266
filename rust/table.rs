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

/// The bucket of a hash.
#[inline(always)]
pub fn bucket(hash: u64, bits: u32) -> usize {
    // A shift by 64 is not a shift: no bits, one bucket.
    (hash >> 1 >> (63 - bits)) as usize
}

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
        let begin = *self.buckets.get(bucket)? as usize;
        let end = *self.buckets.get(bucket + 1)? as usize;
        let hashes = self.hashes.get(begin..end)?;
        hashes.iter().position(|&known| known == hash).map(|at| (begin + at) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let lying = vec![u32::MAX; begins.len()];
            assert_eq!(Table { buckets: &lying, ..table }.find(5, bits), None);
        }
    }
}
