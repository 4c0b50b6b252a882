/** The machine code that the running kernel's compiler made of a program, as text. */
import { type Collection, loadIntoKernel, type ProgramSpec } from '../index.ts';
import type { ListedInstruction } from './disasm.ts';
import { UsageError } from './errors.ts';

/**
 * Offsets count on from function to function; the first instruction of each stands for where the function starts.
 * Addresses of calls and jumps out of the program are the kernel's, unless it hides them.
 */
export async function kernelListing(collection: Collection, spec: ProgramSpec): Promise<ListedInstruction[]> {
  if (process.arch !== 'x64') {
    throw new UsageError('bad_usage', `only x86-64 code can be listed, and the kernel makes code for ${process.arch}`, {
      arch: process.arch,
    });
  }
  const object = loadIntoKernel(collection, { programs: [spec.name] });
  try {
    const functions = object.program(spec.name).jited();
    if (functions.length === 0) {
      throw new UsageError(
        'bad_usage',
        'the kernel made no machine code of it: its compiler is off, or it shows none',
        {
          program: spec.name,
        },
      );
    }
    const { Decoder, DecoderOptions, Formatter, FormatterSyntax } = await import('iced-x86');
    const formatter = new Formatter(FormatterSyntax.Intel);
    const listing: ListedInstruction[] = [];
    let start = 0;
    for (const [index, { address, bytes }] of functions.entries()) {
      const decoder = new Decoder(64, bytes, DecoderOptions.None);
      decoder.ip = address;
      const origin = functions.length === spec.subprograms.length ? (spec.subprograms[index]?.start ?? null) : null;
      while (decoder.canDecode) {
        const insn = decoder.decode();
        const at = Number(insn.ip - address);
        listing.push({ at: start + at, origin: at === 0 ? origin : null, text: formatter.format(insn) });
        insn.free();
      }
      decoder.free();
      start += bytes.length;
    }
    formatter.free();
    return listing;
  } finally {
    object.dispose();
  }
}
