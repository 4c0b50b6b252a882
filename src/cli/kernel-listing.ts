/** The machine code that the running kernel's compiler made of a program, as text. */
import {
  type Collection,
  type KernelProgram,
  kernelFunctions,
  listTranslated,
  loadIntoKernel,
  type ProgramSpec,
} from '../index.ts';
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

/** The program as the kernel's verifier rewrote it, with source lines where it was loaded with types. */
export function kernelLowered(collection: Collection, spec: ProgramSpec): ListedInstruction[] {
  const object = loadIntoKernel(collection, { programs: [spec.name] });
  try {
    const program = object.program(spec.name);
    const maps = new Map([...object.maps.values()].map(map => [map.id, map.spec.name]));
    const functionAt = kernelFunctions();
    const origins = originsOf(program, spec);
    return listTranslated(program.xlated(), { map: id => maps.get(id), ...(functionAt && { functionAt }) }).map(
      ({ slot, text }) => ({ at: slot, origin: origins.get(slot) ?? null, text }),
    );
  } finally {
    object.dispose();
  }
}

/** By slot of the rewritten program: the slot of the object that a source line there began at. Both have their lines in order. */
function originsOf(program: KernelProgram, spec: ProgramSpec): Map<number, number> {
  const origins = new Map<number, number>();
  const lines = [...spec.lines].sort((a, b) => a.insn - b.insn);
  let next = 0;
  for (const { slot, line, column } of program.translatedLines()) {
    const found = lines.findIndex((each, i) => i >= next && each.line === line && (each.column & 0x3ff) === column);
    if (found < 0) continue;
    origins.set(slot, lines[found]!.insn);
    next = found + 1;
  }
  return origins;
}
