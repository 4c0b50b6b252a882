/**
 * From a lowered program to code: what every machine's compiler does alike.
 *
 * One pass over the instructions, each of which a machine's *target* turns into a short sequence; no state is kept
 * between instructions but the label of each slot, so the code of a slot can be read, tested and jumped to on its own. One pair is
 * taken together, where no jump leads between: an index that is scaled and then added to a base (`r1 <<= 3; r0 += r1`), which is how
 * compilers and inlined lookups address elements. Machines add a shifted register in one step, so the sum need not wait for the
 * shift, which follows it.
 * Branch sizes are settled at the end by the code buffer. What is checked here (targets of jumps and calls, function
 * ranges, tail call immediates, the tail-call entry) no target checks again. Code must be placed at a multiple of 64
 * bytes (`PokeSite` relies on alignment within words).
 */
import type {
  Alu,
  AluAddress,
  Atomic,
  ByteSwap,
  Instruction,
  Jump,
  Load,
  MovSx,
  Register,
  Store,
} from '../../isa/instruction.ts';
import { jumpTargets } from '../../isa/jump-targets.ts';
import type { Lowered, TailCallIndex } from '../../lowering/lowered.ts';
import { unpackTailCall } from '../../lowering/tail-call-imm.ts';
import type { SubprogramFacts } from '../../verifier/facts.ts';
import type {
  Code,
  CompiledFunction,
  CompiledTailCall,
  CompileOptions,
  PokeSite,
  Relocation,
  RelocationTarget,
  TailCallKind,
  TailCallMode,
} from './code.ts';
import { CodeBuffer, type Label } from './code-buffer.ts';
import { CompileError } from './errors.ts';
import type { TailCallChoices } from './tail-call-choices.ts';

/** Far below what branches reach, far above what a million instructions need. */
const MAX_CODE_BYTES = 1 << 26;
/** Largest frame that one function may ask for; verified programs stay below 512. */
const MAX_STACK_BYTES = 1 << 16;
/** BPF stack of a function whose use nobody states (trusted routines). */
const DEFAULT_STACK_BYTES = 512;
/** Most tail calls in one run (the kernel's MAX_TAIL_CALL_CNT). */
export const MAX_TAIL_CALLS = 33;

/** What a target may know of a function before it lays out its frame. */
export interface FunctionShape {
  /** The program's own function, one that it calls, or a trusted routine. */
  readonly kind: 'main' | 'subprogram' | 'routine';
  /** BPF stack, bytes, a multiple of 8. */
  readonly stackDepth: number;
  readonly insns: readonly Instruction[];
  /** BPF registers that its instructions name. */
  readonly used: ReadonlySet<Register>;
  /** A tail call is reachable from it. */
  readonly counts: boolean;
  /** Its address is taken: it may be entered by an indirect call. */
  readonly addressTaken: boolean;
}
/** A target's frames say at least this. */
interface CountingFrame {
  readonly counts: boolean;
}

/** Where the linker has to write into what a target has just emitted. */
export interface Fixup {
  readonly form: Relocation['form'];
  /** The field starts this many bytes back. */
  readonly bytesBack: number;
  /** Added to the target's address. */
  readonly bias: number;
}
/** The patchable instructions of a direct call site. */
export interface PokeLabels {
  /** Left out: there is only `target`, which leads to `out` while the slot is empty. */
  readonly bypass?: Label;
  readonly target: Label;
  /** Default: behind the call. */
  readonly out?: Label;
}

/** What a machine knows how to emit. Each method appends to the buffer and keeps every BPF register it is not asked to change. */
export interface Target<Frame extends CountingFrame> {
  readonly tailCallPrologueOffset: number;
  readonly tailCallModes: readonly TailCallMode[];
  readonly choices: TailCallChoices;
  /** Largest array whose cached targets a static site reaches; sites of larger ones are compiled as dynamic. */
  readonly maxStaticEntries: number;
  frame(shape: FunctionShape): Frame;
  /** @param tailCallEntry called where a tail call lands */
  prologue(buffer: CodeBuffer, frame: Frame, tailCallEntry: () => void): void;
  exit(buffer: CodeBuffer, frame: Frame): void;
  alu(buffer: CodeBuffer, insn: Alu): void;
  /** dst += src << amount, in 64 bits. @param amount 1 to 3 @param dst another register than `src` */
  addShifted(buffer: CodeBuffer, dst: Register, src: Register, amount: number): void;
  movSx(buffer: CodeBuffer, insn: MovSx): void;
  byteSwap(buffer: CodeBuffer, insn: ByteSwap): void;
  /** dst = the 64-bit `value`. */
  constant(buffer: CodeBuffer, dst: Register, value: bigint): void;
  /** dst = an address that the linker fills in. */
  address(buffer: CodeBuffer, dst: Register): Fixup;
  /** dst += (-=) an address that the linker fills in. */
  aluAddress(buffer: CodeBuffer, insn: AluAddress): Fixup;
  load(buffer: CodeBuffer, insn: Load, frame: Frame): void;
  store(buffer: CodeBuffer, insn: Store, frame: Frame): void;
  atomic(buffer: CodeBuffer, insn: Atomic, frame: Frame): void;
  jump(buffer: CodeBuffer, insn: Jump, target: Label): void;
  goto(buffer: CodeBuffer, target: Label): void;
  callSubprogram(buffer: CodeBuffer, frame: Frame, callee: Label): void;
  /** A call whose target the linker fills in. */
  call(buffer: CodeBuffer): Fixup;
  callIndirect(buffer: CodeBuffer, register: Register): void;
  runContext(buffer: CodeBuffer, dst: Register): void;
  /** Left out where the machine performs loads in order anyway. */
  loadFence?(buffer: CodeBuffer): void;
  directTailCall(buffer: CodeBuffer, frame: Frame, out: Label): PokeLabels;
  /**
   * @param maxEntries of the one prog array that reaches the site
   * @param index what the verifier proved and may be relied on
   */
  staticTailCall(
    buffer: CodeBuffer,
    frame: Frame,
    out: Label,
    maxEntries: number,
    index: TailCallIndex | undefined,
  ): void;
  dynamicTailCall(buffer: CodeBuffer, frame: Frame, out: Label): void;
  /** Where a function must be entered another way when it is called through its address: code that does so and returns. */
  callback?(buffer: CodeBuffer, frame: Frame, entry: Label): void;
}

interface Subprogram<Frame> {
  readonly name: string;
  readonly start: number;
  readonly end: number;
  readonly frame: Frame;
  /** Its first byte, in front of the prologue. */
  readonly entry: Label;
  /** What its address leads to; `entry`, but for targets that enter callbacks another way. */
  readonly address: Label;
}
interface PendingRelocation extends Omit<Relocation, 'offset' | 'addend'> {
  readonly at: Label;
  readonly bias: number;
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
export function compileFor<Frame extends CountingFrame>(
  target: Target<Frame>,
  lowered: Lowered,
  options: CompileOptions,
): Code {
  if (!target.tailCallModes.includes(options.tailCallMode)) {
    throw new CompileError(
      'bad_input',
      `${lowered.name}: tail calls can be compiled ${target.tailCallModes.map(mode => `'${mode}'`).join(' or ')} here, not '${options.tailCallMode}'`,
      { tailCallMode: options.tailCallMode, modes: target.tailCallModes },
    );
  }
  return new Compilation(target, lowered, options).run();
}

class Compilation<Frame extends CountingFrame> {
  private readonly target: Target<Frame>;
  private readonly lowered: Lowered;
  private readonly options: CompileOptions;
  private readonly buffer = new CodeBuffer(MAX_CODE_BYTES);
  private readonly slots: Label[];
  private readonly subprograms: Subprogram<Frame>[];
  private readonly relocations: PendingRelocation[] = [];
  private readonly tailCalls: PendingTailCall[] = [];
  private tailCallEntry: Label | undefined;
  /** Made when first asked for. */
  private targets: ReadonlySet<number> | undefined;

  constructor(target: Target<Frame>, lowered: Lowered, options: CompileOptions) {
    this.target = target;
    this.lowered = lowered;
    this.options = options;
    this.slots = lowered.insns.map(() => this.buffer.label());
    this.subprograms = this.readSubprograms();
  }

  run(): Code {
    const { buffer, target } = this;
    const { insns } = this.lowered;
    const dead = new Set(this.lowered.unusedArguments);
    if (target.choices.deadArguments === 'drop') for (const slot of this.deadArguments()) dead.add(slot);
    for (const subprogram of this.subprograms) {
      buffer.bind(subprogram.entry);
      target.prologue(buffer, subprogram.frame, () => {
        this.tailCallEntry ??= buffer.here();
      });
      for (let slot = subprogram.start; slot < subprogram.end; slot++) {
        buffer.bind(this.slots[slot]!);
        if (dead.has(slot)) continue;
        if (this.emitScaledIndex(slot, subprogram)) slot++;
        else this.emit(insns[slot]!, slot, subprogram);
      }
    }
    for (const { entry, address, frame } of this.subprograms) {
      if (address === entry) continue;
      buffer.bind(address);
      target.callback!(buffer, frame, entry);
    }
    const end = buffer.here();
    const { bytes, offset } = buffer.finish();
    const tailCallPrologueOffset = this.options.kind === 'program' ? offset(this.tailCallEntry!) : 0;
    if (this.options.kind === 'program' && tailCallPrologueOffset !== target.tailCallPrologueOffset) {
      throw new CompileError(
        'internal',
        `${this.lowered.name}: tail calls enter at ${target.tailCallPrologueOffset}, but the prologue put the entry at ${tailCallPrologueOffset}`,
        { expected: target.tailCallPrologueOffset, actual: tailCallPrologueOffset },
      );
    }
    return {
      bytes,
      functions: this.functions(offset, bytes.length),
      tailCallPrologueOffset,
      relocations: this.relocations.map(({ at, form, target, bias, addend }) => ({
        offset: offset(at),
        form,
        target,
        addend: bias + (typeof addend === 'number' ? addend : offset(addend.label)),
      })),
      pokeSites: this.tailCalls.flatMap(({ patches, poke, end: out }): PokeSite[] =>
        patches && poke !== undefined
          ? [
              {
                poke,
                bypass: patches.bypass === undefined ? undefined : offset(patches.bypass),
                target: offset(patches.target),
                out: offset(patches.out ?? out),
              },
            ]
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

  /** @returns false unless the instruction scales an index that the next one adds. */
  private emitScaledIndex(slot: number, { end }: Subprogram<Frame>): boolean {
    const { insns } = this.lowered;
    const shift = insns[slot]!;
    const sum = insns[slot + 1];
    if (shift.kind !== 'alu' || shift.op !== 'lsh' || shift.width !== 64 || shift.src !== undefined) return false;
    if (shift.imm < 1 || shift.imm > 3 || slot + 2 >= end) return false;
    if (sum?.kind !== 'alu' || sum.op !== 'add' || sum.width !== 64) return false;
    if (sum.src !== shift.dst || sum.dst === shift.dst) return false;
    this.targets ??= jumpTargets(insns);
    if (this.targets.has(slot + 1)) return false;
    this.target.addShifted(this.buffer, sum.dst, shift.dst, shift.imm);
    this.buffer.bind(this.slots[slot + 1]!);
    this.target.alu(this.buffer, shift);
    return true;
  }

  private functions(offset: (label: Label) => number, end: number): CompiledFunction[] {
    const starts = this.subprograms.map(({ name, entry }) => ({ name, start: offset(entry) }));
    for (const { name, entry, address } of this.subprograms) {
      if (address !== entry) starts.push({ name: `${name}.callback`, start: offset(address) });
    }
    return starts.map(({ name, start }, i) => ({ name, start, end: starts[i + 1]?.start ?? end }));
  }

  private readSubprograms(): Subprogram<Frame>[] {
    const { insns, subprograms, name } = this.lowered;
    const { kind } = this.options;
    if (insns.length === 0) throw new CompileError('bad_input', `${name} has no instructions`);
    const facts = subprograms.length > 0 ? subprograms : [wholeProgram(insns, name)];
    const callbacks = referencedFunctions(insns);
    let expected = 0;
    const result = facts.map((fact, index): Subprogram<Frame> => {
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
      const shape = shapeOf(
        fact,
        insns,
        kind === 'routine' ? 'routine' : index === 0 ? 'main' : 'subprogram',
        callbacks.has(fact.start),
      );
      const entry = this.buffer.label();
      const entersOtherwise = this.target.callback !== undefined && shape.addressTaken && shape.counts;
      const address = entersOtherwise ? this.buffer.label() : entry;
      return { name: fact.name, start: fact.start, end: fact.end, frame: this.target.frame(shape), entry, address };
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

  private emit(insn: Instruction, slot: number, subprogram: Subprogram<Frame>): void {
    const { buffer, target } = this;
    switch (insn.kind) {
      case 'alu':
        target.alu(buffer, insn);
        break;
      case 'movsx':
        target.movSx(buffer, insn);
        break;
      case 'byteswap':
        target.byteSwap(buffer, insn);
        break;
      case 'loadImm64':
        this.emitLoadImm64(insn, slot);
        break;
      case 'wide':
        if (this.lowered.insns[slot - 1]?.kind !== 'loadImm64') throw this.unsupported(insn, slot);
        break;
      case 'load':
        target.load(buffer, insn, subprogram.frame);
        break;
      case 'store':
        target.store(buffer, insn, subprogram.frame);
        break;
      case 'atomic':
        this.checkAtomic(insn, slot);
        target.atomic(buffer, insn, subprogram.frame);
        break;
      case 'jump':
        target.jump(buffer, insn, this.jumpTarget(slot, insn.offset, subprogram));
        break;
      case 'goto':
        if (insn.offset !== 0) target.goto(buffer, this.jumpTarget(slot, insn.offset, subprogram));
        break;
      case 'callSubprogram':
        this.emitCallSubprogram(insn.offset, slot, subprogram.frame);
        break;
      case 'callRoutine':
        this.relocate(target.call(buffer), { kind: 'routine', name: insn.routine });
        break;
      case 'callService':
        this.relocate(target.call(buffer), { kind: 'service', name: insn.service });
        break;
      case 'callIndirect':
        target.callIndirect(buffer, insn.register);
        break;
      case 'aluAddress': {
        const { index, offset } = insn.reference;
        this.relocate(target.aluAddress(buffer, insn), { kind: 'mapValue', index }, offset);
        break;
      }
      case 'runContext':
        target.runContext(buffer, insn.dst);
        break;
      case 'loadFence':
        target.loadFence?.(buffer);
        break;
      case 'exit':
        target.exit(buffer, subprogram.frame);
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
    const { dst, reference } = insn;
    if (reference === undefined) {
      this.target.constant(this.buffer, dst, insn.value);
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
        addend = { label: this.subprogramAt(slot, reference.offset).address };
        break;
      default:
        throw new CompileError(
          'unsupported_instruction',
          `${this.lowered.name}: slot ${slot} loads a ${reference.type} reference; lowering must have resolved it to an address`,
          { insn: slot, reference: reference.type },
        );
    }
    this.relocate(this.target.address(this.buffer, dst), target, addend);
  }

  private emitCallSubprogram(offset: number, slot: number, frame: Frame): void {
    const callee = this.subprogramAt(slot, offset);
    if (callee.frame.counts && !frame.counts) {
      throw new CompileError(
        'bad_input',
        `${this.lowered.name}: slot ${slot} calls the function at slot ${callee.start}, which can reach a tail call, from one that is said not to`,
        { insn: slot, callee: callee.start },
      );
    }
    this.target.callSubprogram(this.buffer, frame, callee.entry);
  }

  /** What was just emitted is to be relocated. */
  private relocate(fixup: Fixup, target: RelocationTarget, addend: PendingRelocation['addend'] = 0): void {
    const { form, bytesBack, bias } = fixup;
    this.relocations.push({ at: this.buffer.before(bytesBack), form, target, bias, addend });
  }

  /**
   * Slots that load a constant to r2 or r3 right before a direct tail call. Nobody reads it: the call knows its target, and
   * where it falls through r1-r5 are lost. What jumps between them finds the same.
   */
  private deadArguments(): Set<number> {
    const { insns } = this.lowered;
    const dead = new Set<number>();
    insns.forEach((insn, call) => {
      if (insn.kind !== 'tailCall' || this.options.pokes === false) return;
      if (unpackTailCall(insn.imm).poke === undefined) return;
      for (let slot = call - 1; slot >= 0 && loadsArgument(insns, slot); slot--) dead.add(slot);
    });
    return dead;
  }

  private emitTailCall(imm: number, slot: number, frame: Frame): void {
    const { buffer, lowered, options, target } = this;
    const { choices } = target;
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
      patches = target.directTailCall(buffer, frame, end);
    } else if (kind === 'static' && choices.targets === 'cached' && map!.maxEntries <= target.maxStaticEntries) {
      const index = choices.rangeCheck === 'proved' ? lowered.tailCallIndices?.get(slot) : undefined;
      target.staticTailCall(buffer, frame, end, map!.maxEntries, index);
    } else {
      target.dynamicTailCall(buffer, frame, end);
    }
    buffer.bind(end);
    this.tailCalls.push({ insn: slot, kind, start, end, poke, patches });
  }

  private jumpTarget(slot: number, offset: number, subprogram: Subprogram<Frame>): Label {
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

  private subprogramAt(slot: number, offset: number): Subprogram<Frame> {
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

  private checkAtomic({ op, size }: Atomic, slot: number): void {
    if (size >= 4 || op === 'loadAcquire' || op === 'storeRelease') return;
    throw new CompileError(
      'unsupported_instruction',
      `${this.lowered.name}: slot ${slot} is an atomic ${op} of ${size} bytes; read-modify-write atomics are 4 or 8 bytes wide`,
      { insn: slot, op, size },
    );
  }

  private unsupported(insn: Instruction, slot: number): CompileError {
    return new CompileError(
      'unsupported_instruction',
      `${this.lowered.name}: slot ${slot} holds '${insn.kind}', which lowering must have replaced`,
      { insn: slot, kind: insn.kind },
    );
  }
}

/** Whether a slot does nothing but load a constant to r2 or r3; the second slot of a loadImm64 goes with its first. */
function loadsArgument(insns: readonly Instruction[], slot: number): boolean {
  const insn = insns[slot]!.kind === 'wide' ? insns[slot - 1] : insns[slot];
  if (insn?.kind === 'loadImm64') return insn.dst === 2 || insn.dst === 3;
  return insn?.kind === 'alu' && insn.op === 'mov' && insn.src === undefined && (insn.dst === 2 || insn.dst === 3);
}

/** First slots of the functions whose address is taken. */
function referencedFunctions(insns: readonly Instruction[]): Set<number> {
  const starts = new Set<number>();
  insns.forEach((insn, slot) => {
    if (insn.kind === 'loadImm64' && insn.reference?.type === 'function') starts.add(slot + 1 + insn.reference.offset);
  });
  return starts;
}

function shapeOf(
  fact: SubprogramFacts,
  insns: readonly Instruction[],
  kind: FunctionShape['kind'],
  referenced: boolean,
): FunctionShape {
  const body = insns.slice(fact.start, fact.end);
  const used = new Set<Register>();
  for (const insn of body) {
    if ('dst' in insn) used.add(insn.dst);
    if ('src' in insn && insn.src !== undefined) used.add(insn.src);
    if ('register' in insn) used.add(insn.register);
  }
  return {
    kind,
    stackDepth: (fact.stackDepth + 7) & ~7,
    insns: body,
    used,
    counts: kind !== 'routine' && fact.tailCallReachable,
    addressTaken: referenced || fact.isCallback,
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
