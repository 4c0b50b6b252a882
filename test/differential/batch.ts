/**
 * Runs of random cases on the interpreter, on this machine's compiler and on emulated arm64 with and without LSE; result and
 * memory must agree. What was *executed* is counted by the interpreter, so that the test can tell what it proved.
 */
import type { LinkedProgram } from '../../src/interpreter/linked-program.ts';
import { linkRoutine } from '../../src/interpreter/linked-program.ts';
import { formatInstruction } from '../../src/isa/disassembler.ts';
import type { Instruction } from '../../src/isa/instruction.ts';
import { chooseTailCalls } from '../../src/jit/shared/tail-call-choices.ts';
import type { Lowered } from '../../src/lowering/lowered.ts';
import { lowerRoutine } from '../../src/lowering/routine.ts';
import { unpackTailCall } from '../../src/lowering/tail-call-imm.ts';
import { MapHeader, ProgArrayLayout, ProgramObject } from '../../src/memory/layout.ts';
import { machine } from '../interpreter/support.ts';
import { Computer, nativePlatform } from '../jit/computer.ts';
import type { Platform } from '../jit/processor.ts';
import { TestProgArray } from '../jit/prog-array.ts';
import { lowered } from '../jit/support.ts';
import { arm64Platform, arm64v80Platform } from '../jit-arm64/emulator.ts';
import { BLOCK_BYTES, Random, type RandomCase, ROUTINE, randomCase, SERVICE, SLOTS } from './random-program.ts';

const MAX_TAIL_CALLS = 33;
const STACK_BYTES = 60 * 1024;
const ARRAY_BYTES = ProgArrayLayout.ptrs + 16 * SLOTS;

interface Case extends RandomCase {
  readonly lowered: readonly Lowered[];
}
interface Outcome {
  readonly result: bigint;
  readonly memory: Uint8Array;
}
type Run = (random: Case, contents: Uint8Array) => Outcome;

export interface BatchResult {
  readonly platforms: readonly string[];
  readonly programs: number;
  /** Different results among them. */
  readonly results: number;
  /** Executions by kind of instruction, and outcomes of tail calls. */
  readonly executed: Readonly<Record<string, number>>;
  /** The first disagreement. */
  readonly failure: string | undefined;
}

function interpreted(executed: Map<string, number>): Run {
  const { arena, interpreter, programs, routines, services } = machine(1 << 20, STACK_BYTES);
  const block = arena.allocate(BLOCK_BYTES, 8);
  const array = arena.allocate(ARRAY_BYTES, 64);
  arena.view.setUint32(array + MapHeader.maxEntries, SLOTS, true);
  const objects = Array.from({ length: SLOTS }, (_, id) => {
    const object = arena.allocate(ProgramObject.size, 64);
    arena.view.setUint32(object + ProgramObject.id, id + 1, true);
    return arena.address(object);
  });
  routines.set(ROUTINE.name, linkRoutine(ROUTINE));
  services.set(SERVICE.name, SERVICE.body);
  const mapAddresses = [arena.address(array)];
  return ({ lowered: all, slots }, contents) => {
    arena.bytes.set(contents, block);
    programs.clear();
    const linked = all.map((each, i): LinkedProgram => {
      const program = { lowered: each, mapAddresses, mapValueAddresses: mapAddresses, id: i + 1 };
      programs.set(i + 1, program);
      return program;
    });
    const target = (slot: number) => (slots[slot] === undefined ? 0n : objects[slots[slot]]!);
    for (let slot = 0; slot < SLOTS; slot++) {
      arena.view.setBigUint64(array + ProgArrayLayout.ptrs + 8 * slot, target(slot), true);
    }
    const count = (what: string) => executed.set(what, (executed.get(what) ?? 0) + 1);
    const result = interpreter.run(linked[0]!, [arena.address(block)], {
      onInstruction: event => {
        const insn = event.program.lowered.insns[event.insn]!;
        for (const name of namesOf(insn)) count(name);
        if (insn.kind !== 'tailCall') return;
        const { dynamic, poke } = unpackTailCall(insn.imm);
        const index = Number(event.register(3) & 0xffff_ffffn);
        const kind = dynamic ? 'dynamic' : poke === undefined ? 'static' : 'direct';
        const cause =
          index >= SLOTS
            ? 'range'
            : event.tailCalls >= MAX_TAIL_CALLS
              ? 'limit'
              : target(index) === 0n
                ? 'empty'
                : event.frame > 0
                  ? 'taken in a subprogram'
                  : 'taken';
        count(`tail call ${kind} ${cause}`);
      },
    });
    return { result, memory: arena.bytes.slice(block, block + BLOCK_BYTES) };
  };
}

/** What an executed instruction counts as. */
function* namesOf(insn: Instruction): Generator<string> {
  yield `kind ${insn.kind}`;
  switch (insn.kind) {
    case 'alu':
      yield `${insn.op} ${insn.width} ${insn.op === 'neg' ? '' : insn.src === undefined ? 'imm' : 'reg'}`.trim();
      break;
    case 'movsx':
      yield `movsx ${insn.width} from ${insn.from}`;
      break;
    case 'byteswap':
      yield `${insn.order} ${insn.size}`;
      break;
    case 'load':
      yield `load${insn.signed ? ' signed' : ''} ${insn.size}`;
      yield insn.src === 10 ? 'load from stack' : 'load from memory';
      break;
    case 'store':
      yield `store ${insn.size} ${insn.src === undefined ? 'imm' : 'reg'}`;
      yield insn.dst === 10 ? 'store to stack' : 'store to memory';
      break;
    case 'atomic':
      yield `${insn.op}${insn.fetch ? ' fetch' : ''} ${insn.size}`;
      break;
    case 'jump':
      yield `jump ${insn.op} ${insn.width} ${insn.src === undefined ? 'imm' : 'reg'}`;
      if (insn.offset < 0) yield 'jump back';
      break;
    case 'goto':
      yield insn.long ? 'gotol' : 'goto';
      if (insn.offset < 0) yield 'goto back';
      break;
    case 'loadImm64':
      yield insn.reference === undefined ? 'loadImm64' : `loadImm64 ${insn.reference.type}`;
      break;
    case 'aluAddress':
      yield `aluAddress ${insn.op} ${insn.width}`;
      break;
    case 'callSubprogram':
    case 'callRoutine':
    case 'callService':
    case 'callIndirect':
    case 'runContext':
    case 'loadFence':
    case 'tailCall':
    case 'exit':
      break;
    default:
      throw new Error(`${insn.kind} was executed, and is not counted`);
  }
}

function compiled(platform: Platform): { run: Run; close(): void } {
  const computer = new Computer(platform);
  const block = computer.allocate(BLOCK_BYTES);
  const at = computer.offset(block);
  computer.addService(SERVICE.name, SERVICE.body);
  computer.addRoutine(ROUTINE.name, computer.install(computer.compile(lowerRoutine(ROUTINE), 'routine')));
  const release = computer.mark();
  const run: Run = ({ lowered: all, programs, slots, tailCallMode, tailCallChoices }, contents) => {
    release();
    const from = at + BLOCK_BYTES;
    computer.data.fill(0, from, from + ARRAY_BYTES + 64);
    computer.data.set(contents, at);
    const { emptySlots } = chooseTailCalls(computer.machine.tailCallPresets, tailCallMode, tailCallChoices);
    const array = new TestProgArray(computer, SLOTS, emptySlots);
    const entries = all.map((each, i) => {
      const code = computer.machine.compile(each, { kind: 'program', tailCallMode, tailCallChoices });
      const entry = computer.install(code, [array.address]);
      array.addSites(code, entry, programs[i]!.pokes);
      return { entry, offset: code.tailCallPrologueOffset };
    });
    for (const [slot, program] of slots.entries()) {
      if (program !== undefined) array.set(slot, entries[program]!.entry, entries[program]!.offset);
    }
    const result = computer.call(entries[0]!.entry, block);
    return { result, memory: computer.data.slice(at, at + BLOCK_BYTES) };
  };
  return { run, close: () => computer.close() };
}

function caseOf(seed: number): Case {
  const random = randomCase(seed);
  return {
    ...random,
    lowered: random.programs.map(({ insns, stackDepth, callbacks, pokes, indices }) =>
      lowered(insns, {
        stackDepth,
        callbacks,
        indices,
        usedMaps: [{ name: 'array', maxEntries: SLOTS }],
        pokeTable: pokes.map(key => ({ insn: 0, map: 0, key })),
      }),
    ),
  };
}

/** Runs the cases of `count` seeds from `first` on. */
export function runBatch(first: number, count: number): BatchResult {
  const executed = new Map<string, number>();
  const expected = interpreted(executed);
  const platforms = [nativePlatform, arm64Platform, arm64v80Platform].filter(({ available }) => available);
  const machines = platforms.map(platform => ({ platform, ...compiled(platform) }));
  const results = new Set<bigint>();
  let failure: string | undefined;
  for (let seed = first; seed < first + count && failure === undefined; seed++) {
    const random = caseOf(seed);
    const bytes = new Random(-seed);
    const contents = Uint8Array.from({ length: BLOCK_BYTES }, () => (bytes.oneIn(4) ? 0 : bytes.next()));
    const want = expected(random, contents);
    results.add(want.result);
    for (const { platform, run } of machines) {
      const got = run(random, contents);
      if (want.result === got.result && Buffer.compare(want.memory, got.memory) === 0) continue;
      failure = describe(seed, platform.name, random, want, got);
      break;
    }
  }
  for (const { close } of machines) close();
  return {
    platforms: platforms.map(({ name }) => name),
    programs: count,
    results: results.size,
    executed: Object.fromEntries(executed),
    failure,
  };
}

function describe(
  seed: number,
  platform: string,
  { programs, slots, tailCallMode, tailCallChoices }: Case,
  want: Outcome,
  got: Outcome,
) {
  const listing = programs.map(({ insns }, i) =>
    [
      `program ${i}:`,
      ...insns.map((insn, slot) => `  ${slot}: ${insn.kind === 'wide' ? '' : formatInstruction(insn)}`),
    ].join('\n'),
  );
  const text = ({ result, memory }: Outcome) => `0x${result.toString(16)} ${Buffer.from(memory).toString('hex')}`;
  return `seed ${seed}: the interpreter and ${platform} disagree (tail calls '${tailCallMode}' ${JSON.stringify(tailCallChoices)}, slots ${JSON.stringify(slots)})
interpreter ${text(want)}
${platform} ${text(got)}
${listing.join('\n')}`;
}
