/**
 * The x86-64 compiler: a lowered program in, position-independent code and relocations out.
 *
 * One pass over the instructions, each of which becomes a short fixed sequence; no state is kept between instructions
 * but the label of each slot, so the code of a slot can be read, tested and jumped to on its own. Branch sizes are
 * settled at the end by the code buffer. See `frame.ts` for frames and the tail call count, `registers.ts` for the
 * register assignment. Code must be placed at a multiple of 64 bytes (`PokeSite` relies on alignment within words).
 */
import type { Instruction, Register } from '../../isa/instruction.ts';
import type { Lowered } from '../../lowering/lowered.ts';
import { unpackTailCall } from '../../lowering/tail-call-imm.ts';
import type { SubprogramFacts } from '../../verifier/facts.ts';
import type {
  Code,
  CompiledTailCall,
  CompileOptions,
  PokeSite,
  Relocation,
  RelocationTarget,
  TailCallKind,
} from '../shared/code.ts';
import { CodeBuffer, type Label } from '../shared/code-buffer.ts';
import { CompileError } from '../shared/errors.ts';
import { jump, near } from './branches.ts';
import { emitAlu, emitByteSwap, emitMovSx, move, moveImmediate64 } from './emit-alu.ts';
import { emitJump } from './emit-jump.ts';
import { emitAtomic, emitLoad, emitStore } from './emit-memory.ts';
import {
  emitDirectTailCall,
  emitDynamicTailCall,
  emitStaticTailCall,
  MAX_STATIC_ENTRIES,
  type PokeLabels,
} from './emit-tail-call.ts';
import { encode } from './encodings.ts';
import { emitExit, emitLoadCounterPointer, emitPrologue, type Frame, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { CALLEE_SAVED, machineRegister, RAX, RUN_CONTEXT, SCRATCH_B } from './registers.ts';

/** Far below what 32-bit displacements reach, far above what a million instructions need. */
const MAX_CODE_BYTES = 1 << 26;
/** Largest frame that one function may ask for; verified programs stay below 512. */
const MAX_STACK_BYTES = 1 << 16;
/** BPF stack of a function whose use nobody states (trusted routines). */
const DEFAULT_STACK_BYTES = 512;

interface Subprogram {
  readonly start: number;
  readonly end: number;
  readonly frame: Frame;
  /** Its first byte, in front of the prologue. */
  readonly entry: Label;
}
interface PendingRelocation extends Omit<Relocation, 'offset' | 'addend'> {
  readonly at: Label;
  /** Bytes, or a label of this code. */
  readonly addend: number | { readonly label: Label };
}
interface PendingTailCall {
  readonly insn: number;
  readonly kind: TailCallKind;
  readonly start: Label;
  readonly end: Label;
  readonly poke: number | undefined;
  readonly patches: PokeLabels | undefined;
}

/**
 * @throws CompileError for instructions that lowering must not leave, targets outside the program, and programs whose
 *   code would be too large
 * @throws LoweringError for a tail call whose immediate `packTailCall` cannot have made
 */
export function compile(lowered: Lowered, options: CompileOptions): Code {
  return new Compilation(lowered, options).run();
}

class Compilation {
  private readonly lowered: Lowered;
  private readonly options: CompileOptions;
  private readonly buffer = new CodeBuffer(MAX_CODE_BYTES);
  private readonly slots: Label[];
  private readonly subprograms: Subprogram[];
  private readonly relocations: PendingRelocation[] = [];
  private readonly tailCalls: PendingTailCall[] = [];
  private tailCallEntry: Label | undefined;

  constructor(lowered: Lowered, options: CompileOptions) {
    this.lowered = lowered;
    this.options = options;
    this.slots = lowered.insns.map(() => this.buffer.label());
    this.subprograms = this.readSubprograms();
  }

  run(): Code {
    const { buffer } = this;
    const { insns } = this.lowered;
    for (const subprogram of this.subprograms) {
      buffer.bind(subprogram.entry);
      emitPrologue(buffer, subprogram.frame, () => {
        this.tailCallEntry ??= buffer.here();
      });
      for (let slot = subprogram.start; slot < subprogram.end; slot++) {
        buffer.bind(this.slots[slot]!);
        this.emit(insns[slot]!, slot, subprogram);
      }
    }
    const end = buffer.here();
    const { bytes, offset } = buffer.finish();
    const tailCallPrologueOffset = this.options.kind === 'program' ? offset(this.tailCallEntry!) : 0;
    if (this.options.kind === 'program' && tailCallPrologueOffset !== TAIL_CALL_PROLOGUE_OFFSET) {
      throw new CompileError(
        'internal',
        `${this.lowered.name}: tail calls enter at ${TAIL_CALL_PROLOGUE_OFFSET}, but the prologue put the entry at ${tailCallPrologueOffset}`,
        { expected: TAIL_CALL_PROLOGUE_OFFSET, actual: tailCallPrologueOffset },
      );
    }
    return {
      bytes,
      tailCallPrologueOffset,
      relocations: this.relocations.map(({ at, form, target, addend }) => ({
        offset: offset(at),
        form,
        target,
        addend: typeof addend === 'number' ? addend : offset(addend.label),
      })),
      pokeSites: this.tailCalls.flatMap(({ patches, poke, end: out }): PokeSite[] =>
        patches && poke !== undefined
          ? [{ poke, bypass: offset(patches.bypass), target: offset(patches.target), out: offset(out) }]
          : [],
      ),
      tailCalls: this.tailCalls.map(
        (site): CompiledTailCall => ({
          insn: site.insn,
          kind: site.kind,
          start: offset(site.start),
          end: offset(site.end),
        }),
      ),
      insnOffsets: Uint32Array.from([...this.slots, end], offset),
    };
  }

  private readSubprograms(): Subprogram[] {
    const { insns, subprograms, name } = this.lowered;
    const { kind } = this.options;
    if (insns.length === 0) throw new CompileError('bad_input', `${name} has no instructions`);
    const facts = subprograms.length > 0 ? subprograms : [wholeProgram(insns, name)];
    const callbacks = referencedFunctions(insns);
    let expected = 0;
    const result = facts.map((fact, index): Subprogram => {
      if (fact.start !== expected || fact.end <= fact.start) {
        throw new CompileError(
          'bad_input',
          `${name}: subprogram ${fact.name} spans slots ${fact.start}..${fact.end}; expected it to start at ${expected} and not to be empty`,
          { subprogram: fact.name, start: fact.start, end: fact.end, expected },
        );
      }
      if (!Number.isInteger(fact.stackDepth) || fact.stackDepth < 0 || fact.stackDepth > MAX_STACK_BYTES) {
        throw new CompileError(
          'bad_input',
          `${name}: subprogram ${fact.name} states a stack of ${fact.stackDepth} bytes; expected 0 to ${MAX_STACK_BYTES}`,
          { subprogram: fact.name, stackDepth: fact.stackDepth },
        );
      }
      expected = fact.end;
      return {
        start: fact.start,
        end: fact.end,
        frame: frameOf(
          fact,
          insns,
          kind === 'routine' ? 'routine' : index === 0 ? 'main' : 'subprogram',
          callbacks.has(fact.start),
        ),
        entry: this.buffer.label(),
      };
    });
    if (expected !== insns.length) {
      throw new CompileError(
        'bad_input',
        `${name}: subprograms end at slot ${expected}, instructions at ${insns.length}`,
        { end: expected, slots: insns.length },
      );
    }
    return result;
  }

  private emit(insn: Instruction, slot: number, subprogram: Subprogram): void {
    const { buffer } = this;
    switch (insn.kind) {
      case 'alu':
        emitAlu(buffer, insn);
        break;
      case 'movsx':
        emitMovSx(buffer, insn);
        break;
      case 'byteswap':
        emitByteSwap(buffer, insn);
        break;
      case 'loadImm64':
        this.emitLoadImm64(insn, slot);
        break;
      case 'wide':
        if (this.lowered.insns[slot - 1]?.kind !== 'loadImm64') throw this.unsupported(insn, slot);
        break;
      case 'load':
        emitLoad(buffer, insn);
        break;
      case 'store':
        emitStore(buffer, insn);
        break;
      case 'atomic':
        emitAtomic(buffer, insn);
        break;
      case 'jump':
        emitJump(buffer, insn, this.jumpTarget(slot, insn.offset, subprogram));
        break;
      case 'goto':
        if (insn.offset !== 0) jump(buffer, this.jumpTarget(slot, insn.offset, subprogram));
        break;
      case 'callSubprogram':
        this.emitCallSubprogram(insn.offset, slot, subprogram.frame);
        break;
      case 'callRoutine':
        this.emitCall({ kind: 'routine', name: insn.routine });
        break;
      case 'callService':
        this.emitCall({ kind: 'service', name: insn.service });
        break;
      case 'callIndirect':
        this.emitCallIndirect(insn.register);
        break;
      case 'runContext':
        move(buffer, 64, machineRegister(insn.dst), RUN_CONTEXT);
        break;
      case 'exit':
        emitExit(buffer, subprogram.frame);
        break;
      case 'tailCall':
        this.emitTailCall(insn.imm, slot, subprogram.frame);
        break;
      default:
        throw this.unsupported(insn, slot);
    }
    if (slot === subprogram.end - 1 && insn.kind !== 'exit' && insn.kind !== 'goto') {
      throw new CompileError(
        'bad_input',
        `${this.lowered.name}: control runs past slot ${slot}, the last of its function; expected exit or goto there`,
        { insn: slot },
      );
    }
  }

  private emitLoadImm64(insn: Extract<Instruction, { kind: 'loadImm64' }>, slot: number): void {
    const dst = machineRegister(insn.dst);
    const { reference } = insn;
    if (reference === undefined) {
      moveImmediate64(this.buffer, dst, insn.value);
      return;
    }
    let target: RelocationTarget;
    let addend: PendingRelocation['addend'] = 0;
    switch (reference.type) {
      case 'mapAddress':
        target = { kind: 'map', index: reference.index };
        break;
      case 'mapValueAddress':
        target = { kind: 'mapValue', index: reference.index };
        addend = reference.offset;
        break;
      case 'function':
        target = { kind: 'self' };
        addend = { label: this.subprogramAt(slot, reference.offset).entry };
        break;
      default:
        throw new CompileError(
          'unsupported_instruction',
          `${this.lowered.name}: slot ${slot} loads a ${reference.type} reference; lowering must have resolved it to an address`,
          { insn: slot, reference: reference.type },
        );
    }
    encode(this.buffer, 'mov r64, imm64', 64, dst, 0, 0n);
    this.relocate(8, 'absolute64', target, addend);
  }

  private emitCallSubprogram(offset: number, slot: number, frame: Frame): void {
    const callee = this.subprogramAt(slot, offset);
    if (frame.counts) {
      emitLoadCounterPointer(this.buffer, frame);
    } else if (callee.frame.counts) {
      throw new CompileError(
        'bad_input',
        `${this.lowered.name}: slot ${slot} calls the function at slot ${callee.start}, which can reach a tail call, from one that is said not to`,
        { insn: slot, callee: callee.start },
      );
    }
    near(this.buffer, 0xe8, callee.entry);
  }

  private emitCall(target: RelocationTarget): void {
    this.buffer.u8(0xe8);
    this.buffer.u32(0);
    // Displacements count from the end of the field.
    this.relocate(4, 'relative32', target, -4);
  }

  private emitCallIndirect(register: Register): void {
    const { buffer } = this;
    let target = machineRegister(register);
    if (target === RAX) {
      move(buffer, 64, SCRATCH_B, RAX);
      target = SCRATCH_B;
    }
    // A callback that can reach a tail call starts a count of its own.
    encode(buffer, 'xor rm, r', 32, RAX, RAX);
    encode(buffer, 'call rm64', 32, target);
  }

  /** The `bytes` bytes just emitted are to be relocated. */
  private relocate(
    bytes: number,
    form: Relocation['form'],
    target: RelocationTarget,
    addend: PendingRelocation['addend'],
  ): void {
    this.relocations.push({ at: this.buffer.before(bytes), form, target, addend });
  }

  private emitTailCall(imm: number, slot: number, frame: Frame): void {
    const { buffer, lowered, options } = this;
    if (!frame.counts) {
      throw new CompileError(
        'bad_input',
        `${lowered.name}: slot ${slot} is a tail call in a function that cannot reach one, or in a routine`,
        { insn: slot },
      );
    }
    const { usedMap, dynamic, poke } = unpackTailCall(imm);
    const map = lowered.usedMaps[usedMap];
    if (!dynamic && map === undefined) {
      throw new CompileError(
        'bad_input',
        `${lowered.name}: the tail call at slot ${slot} names map ${usedMap}, but the program uses ${lowered.usedMaps.length} maps`,
        { insn: slot, map: usedMap },
      );
    }
    if (poke !== undefined && lowered.pokeTable[poke] === undefined) {
      throw new CompileError(
        'bad_input',
        `${lowered.name}: the tail call at slot ${slot} names poke ${poke}, but the table has ${lowered.pokeTable.length}`,
        { insn: slot, poke },
      );
    }
    const direct = poke !== undefined && options.pokes !== false;
    const kind: TailCallKind = direct ? 'direct' : dynamic ? 'dynamic' : 'static';
    const start = buffer.here();
    const end = buffer.label();
    let patches: PokeLabels | undefined;
    if (direct) {
      patches = emitDirectTailCall(buffer, frame, end);
    } else if (kind === 'static' && options.tailCallMode === 'cached' && map!.maxEntries <= MAX_STATIC_ENTRIES) {
      emitStaticTailCall(buffer, frame, end, map!.maxEntries);
    } else {
      emitDynamicTailCall(buffer, frame, end);
    }
    buffer.bind(end);
    this.tailCalls.push({ insn: slot, kind, start, end, poke, patches });
  }

  private jumpTarget(slot: number, offset: number, subprogram: Subprogram): Label {
    const target = slot + 1 + offset;
    const within = target >= subprogram.start && target < subprogram.end;
    if (!within || this.lowered.insns[target]?.kind === 'wide') {
      throw new CompileError(
        'bad_target',
        `${this.lowered.name}: slot ${slot} jumps to ${target}, which is no instruction of its function (slots ${subprogram.start}..${subprogram.end - 1})`,
        { insn: slot, target },
      );
    }
    return this.slots[target]!;
  }

  private subprogramAt(slot: number, offset: number): Subprogram {
    const target = slot + 1 + offset;
    const found = this.subprograms.find(({ start }) => start === target);
    if (!found) {
      throw new CompileError(
        'bad_target',
        `${this.lowered.name}: slot ${slot} refers to a function at slot ${target}, where none starts`,
        { insn: slot, target },
      );
    }
    return found;
  }

  private unsupported(insn: Instruction, slot: number): CompileError {
    return new CompileError(
      'unsupported_instruction',
      `${this.lowered.name}: slot ${slot} holds '${insn.kind}', which lowering must have replaced`,
      { insn: slot, kind: insn.kind },
    );
  }
}

/** First slots of the functions whose address is taken. */
function referencedFunctions(insns: readonly Instruction[]): Set<number> {
  const starts = new Set<number>();
  insns.forEach((insn, slot) => {
    if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') starts.add(slot + 1 + insn.reference.offset);
  });
  return starts;
}

function frameOf(
  fact: SubprogramFacts,
  insns: readonly Instruction[],
  kind: Frame['kind'],
  addressTaken: boolean,
): Frame {
  const used = new Set<Register>();
  for (let slot = fact.start; slot < fact.end; slot++) {
    const insn = insns[slot]!;
    if ('dst' in insn) used.add(insn.dst);
    if ('src' in insn && insn.src !== undefined) used.add(insn.src);
    if ('register' in insn) used.add(insn.register);
  }
  const linked = kind !== 'routine' || used.has(10);
  const counts = kind !== 'routine' && fact.tailCallReachable;
  return {
    kind,
    depth: linked ? (fact.stackDepth + 7) & ~7 : 0,
    saved: CALLEE_SAVED.filter(register => used.has(register)),
    counts,
    maybeEntry: kind === 'main' || addressTaken || fact.isCallback,
    linked,
  };
}

function wholeProgram(insns: readonly Instruction[], name: string): SubprogramFacts {
  const hasTailCall = insns.some(insn => insn.kind === 'tailCall');
  return {
    name,
    start: 0,
    end: insns.length,
    stackDepth: DEFAULT_STACK_BYTES,
    hasTailCall,
    tailCallReachable: hasTailCall,
    isCallback: false,
  };
}
