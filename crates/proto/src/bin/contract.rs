//! Prints the `FileDescriptorSet` of all packages, for tools that compare contracts: `contract > FILE`.

use std::io::Write;

fn main() -> std::io::Result<()> {
    std::io::stdout().write_all(proto::DESCRIPTOR_SET)
}
