"""Read the dynamic section of a shared library: the libraries that it needs, the symbols that it exports."""

import io

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection


class SharedLibrary:
    """The dynamic part of an ELF file.

    needed: the names of the libraries that it needs.
    run_paths: the entries of RPATH and RUNPATH.
    exports: the names of the symbols that other libraries can see.
    versions: the symbol versions that it needs from other libraries, such as "GLIBC_2.34".
    executable_stack: whether it needs an executable stack.
    """

    def __init__(self, content: bytes) -> None:
        elf = ELFFile(io.BytesIO(content))
        tags = list(elf.get_section_by_name(".dynamic").iter_tags())
        self.needed = {tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"}
        self.run_paths = [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
        self.run_paths += [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
        self.exports = {
            symbol.name
            for symbol in elf.get_section_by_name(".dynsym").iter_symbols()
            if symbol.name and symbol.entry.st_shndx != "SHN_UNDEF"
        }
        self.versions = {
            version.name
            for section in elf.iter_sections()
            if isinstance(section, GNUVerNeedSection)
            for _, versions in section.iter_versions()
            for version in versions
        }
        self.executable_stack = any(
            segment.header.p_type == "PT_GNU_STACK" and segment.header.p_flags & 1
            for segment in elf.iter_segments()
        )
