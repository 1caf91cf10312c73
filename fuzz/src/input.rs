//! The fuzzer's octets, taken apart from the front.

/// What is left of the input. Behind its end there are zeros.
pub struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    /// The whole input.
    pub const fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    /// Whether nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next octet.
    pub fn octet(&mut self) -> u8 {
        let [octet] = self.array();
        octet
    }

    /// The next 16 bits.
    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next 32 bits.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next `N` octets.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    /// The next `len` octets, or as many as there are.
    pub fn take(&mut self, len: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'d [u8] {
        self.take(usize::MAX)
    }

    /// The index of one of `len` things; `None` when there are none.
    pub fn pick(&mut self, len: usize) -> Option<usize> {
        usize::from(self.octet()).checked_rem(len)
    }
}
