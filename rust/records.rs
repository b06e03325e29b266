//! Where the records of a delimited text end.
