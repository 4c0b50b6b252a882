/** `switchyard disasm`: a program as the object has it, after lowering, and as machine code. */
import {
  compileProgram,
  disassemble,
  type Instruction,
  lineAt,
  lowerProgram,
  type ProgramSpec,
  verifyProgram,
} from '../core.ts';
import { UsageError } from './errors.ts';
import { findProgram, mentionUnsupported, readObject } from './files.ts';
import { type Arch, nativeListing } from './native-listing.ts';
import { type TailCallOptions, tailCallSettings } from './options.ts';
import { dim } from './terminal.ts';

export interface DisasmOptions extends TailCallOptions {
  readonly program: string;
  readonly stage: 'object' | 'lowered' | 'native';
  readonly backend: 'native' | 'kernel';
  readonly arch: Arch;
  readonly btf?: string;
  readonly json?: boolean;
}

/** One line of a listing. */
export interface ListedInstruction {
  /** Slot (object, lowered) or byte offset (native). */
  readonly at: number;
  /** Slot of the object's program it came from; null for what the compiler added, or where that is not known. */
  readonly origin: number | null;
  readonly text: string;
}

export async function disasm(path: string, options: DisasmOptions): Promise<void> {
  const { stage, arch, backend } = options;
  if (backend === 'kernel' && stage === 'object') {
    throw new UsageError(
      'bad_usage',
      'the kernel shows what it made of a program: --backend kernel needs --stage lowered or native',
      { stage },
    );
  }
  const collection = readObject(path, options.btf);
  mentionUnsupported(collection);
  const spec = findProgram(collection, options.program);
  let listing: ListedInstruction[];
  if (backend === 'kernel') {
    const { kernelListing, kernelLowered } = await import('./kernel-listing.ts');
    listing = stage === 'lowered' ? kernelLowered(collection, spec) : await kernelListing(collection, spec);
  } else if (stage === 'object') listing = list(spec.insns, slot => slot);
  else {
    const verified = verifyProgram(spec, collection.maps);
    const lowered = lowerProgram(verified, collection.maps, true);
    if (stage === 'lowered') listing = list(lowered.insns, slot => lowered.origin[slot]!);
    else listing = await nativeListing(lowered, compileProgram(lowered, { arch, ...tailCallSettings(options) }), arch);
  }
  if (options.json) {
    console.log(
      JSON.stringify({
        program: spec.name,
        stage,
        instructions: listing.map(entry => ({
          ...entry,
          line: (entry.origin === null ? undefined : lineAt(spec.lines, entry.origin)?.line) ?? null,
        })),
      }),
    );
    return;
  }
  for (const line of listingLines(listing, spec, stage, dim)) console.log(line);
}

/** A listing as text: the source lines, the names of functions, the instructions. */
export function* listingLines(
  listing: readonly ListedInstruction[],
  spec: Pick<ProgramSpec, 'lines' | 'subprograms'>,
  stage: DisasmOptions['stage'],
  paintSource: (text: string) => string = text => text,
): Generator<string> {
  const lines = new Map(spec.lines.map(line => [line.insn, line]));
  const starts = new Map(spec.subprograms.map(({ start, name }) => [start, name]));
  let last: number | null = null;
  for (const { at, origin, text } of listing) {
    if (origin !== null && origin !== last) {
      const name = starts.get(origin);
      if (name) yield `${name}:`;
      const line = lines.get(origin);
      if (line) yield paintSource(`; ${line.text.trim() || '(no text)'} @ ${line.file}:${line.line}`);
      last = origin;
    }
    yield `${(stage === 'native' ? at.toString(16) : String(at)).padStart(6)}: ${text}`;
  }
}

function list(insns: readonly Instruction[], origin: (slot: number) => number): ListedInstruction[] {
  return disassemble(insns).map(({ slot, text }) => {
    const from = origin(slot);
    return { at: slot, origin: from < 0 ? null : from, text };
  });
}
