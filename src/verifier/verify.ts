/**
 * The verifier's entry: `verify` puts the passes in order and does nothing else.
 *
 * Problem: native code in the user's own process may do anything; so a program runs only when it was proved, for
 * every input, to access only memory that is its own, to end, and to call helpers only as they allow.
 *
 * Strategy: abstract interpretation along every path, as the Linux kernel does it, so that what passes there passes
 * here and refusals read the same. For each path a state says what is known of each register and stack byte: numbers as tnums
 * and ranges (`scalar.ts`), pointers by what they point into and how far (`registers.ts`). Branches split the path and
 * sharpen both halves (`branches.ts`); states that were proved before end paths early (`prune.ts`).
 *
 * Invariant: the abstract state always covers every concrete state that can reach the instruction. An access is allowed
 * only if it is within bounds for everything the state covers.
 *
 * Order: control flow (`cfg.ts`), live registers (`liveness.ts`), the program itself and each global function that it
 * reaches (`interpret.ts`), call depth (`stack-depth.ts`), facts for the rooms below.
 */
import type { CallHelper, CallKfunc, Instruction } from '../isa/instruction.ts';
import { specialFields } from '../maps/special-fields.ts';
import type { ProgramSpec } from '../object/spec.ts';
import { Analysis, statistics, type VerifyOptions } from './analysis.ts';
import { checkControlFlow, findCalls, findSubprograms } from './cfg.ts';
import { findLoops } from './control-loops.ts';
import { type Errno, HINTS, VerifierError, type VerifierErrorCode } from './errors.ts';
import type { Facts, Verified } from './facts.ts';
import { initialArguments } from './global-functions.ts';
import { GPL_LICENSES, runsCallback } from './helper-call.ts';
import { interpret } from './interpret.ts';
import { isIteratorNext } from './kfunc-signature.ts';
import { liveRegisters } from './liveness.ts';
import { VerifierLog } from './log.ts';
import { RAW_SIZE_ID, register, scalarRegister, ZERO_SCALAR } from './registers.ts';
import { constant, range } from './scalar.ts';
import { callGraph, checkStackDepth, closure } from './stack-depth.ts';
import { Frame, State } from './state.ts';
import { backEdge, checkTailCalls, checkUnprivileged } from './unprivileged.ts';

export type { VerifyOptions } from './analysis.ts';

const MAX_USED_MAPS = 64;
/** Largest program; the kernel's limit for privileged users. */
const MAX_PROGRAM_SLOTS = 1_000_000;
const MAX_MEMORY = 0xffff_ffff;

/**
 * Proves a program safe.
 * @throws VerifierError where it cannot be proved, with the kernel's words, the place, the state and the log.
 */
export function verify(program: ProgramSpec, options: VerifyOptions): Verified {
  const { insns } = program;
  const helperName = (helper: number): string | undefined => {
    const named = options.helpers.get(helper) ?? options.refusedHelper?.(helper);
    return named === undefined ? undefined : `bpf_${named.name}`;
  };
  const log = new VerifierLog(options.logLevel ?? 0, insns, program.lines, helperName);
  const refuse = (
    code: VerifierErrorCode,
    text: string,
    errno: Errno,
    insn?: number,
    hint: string = HINTS[code],
  ): never => {
    log.write(text);
    log.write(statistics({ limit: options.maxInsns }));
    throw new VerifierError(code, {
      program: program.name,
      insn,
      line: insn === undefined ? undefined : log.lineOf(insn),
      state: '',
      errno,
      log: log.toString(),
      insnsProcessed: 0,
      text,
      hint,
    });
  };
  checkOptions(options, refuse);
  if (insns.length === 0) refuse('bad_program', 'the program has no instructions', 'EINVAL');
  if (insns.length > MAX_PROGRAM_SLOTS)
    refuse(
      'bad_program',
      `the program has ${insns.length} instructions, at most ${MAX_PROGRAM_SLOTS} are allowed`,
      'E2BIG',
    );
  if (options.unprivileged === true) checkUnprivileged(program, refuse);
  const calls = findCalls(insns);
  const usedMaps = findMaps(insns, calls, options, refuse);
  checkMaps(program, usedMaps, options, refuse);
  checkKfuncLicense(program, calls, options, refuse);
  const subprograms = findSubprograms(insns, calls, program.subprograms, refuse);
  log.functions(subprograms.map(({ start }) => start));
  const isTailCall = (helper: number): boolean => options.helpers.get(helper)?.name === 'tail_call';
  checkEarlyReturns(program, subprograms, isTailCall, refuse);
  const cfg = checkControlFlow(
    insns,
    subprograms,
    helper => runsCallback(options.helpers.get(helper)),
    name => name !== undefined && isIteratorNext(options.kfuncs?.get(name)),
    refuse,
  );
  const argumentCount = (call: CallHelper | CallKfunc): number => {
    const signature =
      call.kind === 'callHelper' ? options.helpers.get(call.helper) : options.kfuncs?.get(call.name ?? '');
    return Math.min(signature?.args.length ?? 5, 5);
  };
  const live = liveRegisters(insns, cfg, argumentCount);
  if (options.unprivileged === true) {
    const edge = backEdge(insns);
    if (edge !== undefined)
      refuse('not_permitted', `back-edge from insn ${edge[0]} to ${edge[1]}`, 'EINVAL', edge[0], 'Unroll the loop.');
  }
  const graph = callGraph(insns, calls, cfg.subprogramOf, cfg.subprograms.length, isTailCall);

  const movesPacket: boolean[] = new Array(cfg.subprograms.length).fill(false);
  for (const insn of calls) {
    const i = insns[insn]!;
    const moves =
      i.kind === 'callHelper'
        ? options.helpers.get(i.helper)?.changesPacket
        : i.kind === 'callKfunc' && options.kfuncs?.get(i.name ?? '')?.changesPacket;
    if (moves === true) movesPacket[cfg.subprogramOf[insn]!] = true;
  }
  const packetChangers = new Set(closure(graph, movesPacket).flatMap((moves, index) => (moves ? [index] : [])));

  const arena = usedMaps.find(name => options.maps.get(name)?.type === 'arena');
  const analysis = new Analysis(program, options, cfg, live, log, packetChangers, arena);
  if (log.level === 2) {
    analysis.loops = findLoops(insns);
    log.program(live, analysis.loops);
  }
  interpret(analysis, 0, initialState(analysis));
  verifyGlobals(analysis);
  const stackDepth = checkStackDepth(analysis, graph);
  checkTailCalls(analysis);
  const text = analysis.statistics();
  if (log.level > 0) log.write(text);

  const tailCallReachable = closure(graph, graph.hasTailCall);
  const { realFacts: facts } = analysis;
  const result: Facts = {
    reachable: facts.reachable,
    usedMaps,
    memoryKind: facts.memoryKind,
    contextOffset: facts.contextOffset,
    ...(arena === undefined ? {} : { arena, arenaArithmetic: arithmeticOnArena(facts.arenaArithmetic) }),
    tailCalls: facts.tailCalls,
    narrowTailCalls: facts.narrowTailCalls,
    helperCalls: facts.helperCalls.map(call => analysis.keys.addTo(call)),
    subprograms: cfg.subprograms.map((subprogram, index) => ({
      name: subprogram.name,
      start: subprogram.start,
      end: subprogram.end,
      stackDepth: Math.ceil(facts.stackDepth[index]! / 8) * 8,
      hasTailCall: graph.hasTailCall[index]!,
      tailCallReachable: tailCallReachable[index]!,
      isCallback: facts.callbacks.has(index),
      ...(facts.uninitialized.has(index) ? { readsUninitializedStack: true } : {}),
    })),
    stackDepth,
    changesPacket: facts.changesPacket,
  };
  return {
    program,
    facts: result,
    insnsProcessed: analysis.insnsProcessed,
    statesExplored: analysis.totalStates,
    peakStates: analysis.peakStates,
    log: log.level > 0 ? log.toString() : '',
  };
}

function arithmeticOnArena(arithmetic: ReadonlyMap<number, boolean>): Set<number> {
  return new Set([...arithmetic].flatMap(([insn, onArena]) => (onArena ? [insn] : [])));
}

type RefuseWithHint = (code: VerifierErrorCode, text: string, errno: Errno, insn?: number, hint?: string) => never;

function checkOptions(options: VerifyOptions, refuse: RefuseWithHint): void {
  const { memorySize, maxInsns } = options;
  if (memorySize !== undefined) {
    const { min, max } = memorySize;
    if (!Number.isInteger(min) || !Number.isInteger(max) || min < 0 || max < min || max > MAX_MEMORY)
      refuse(
        'bad_option',
        `memorySize must be whole numbers 0 <= min <= max <= ${MAX_MEMORY}, got ${min} and ${max}`,
        'EINVAL',
      );
  }
  if (maxInsns !== undefined && (!Number.isInteger(maxInsns) || maxInsns < 1))
    refuse('bad_option', `maxInsns must be a positive whole number, got ${maxInsns}`, 'EINVAL');
}

/** Names of the maps in order of first use, dead code included, as the kernel counts them. */
function findMaps(
  insns: readonly Instruction[],
  calls: readonly number[],
  options: VerifyOptions,
  refuse: RefuseWithHint,
): string[] {
  const names = new Set<string>();
  for (const insn of calls) {
    const i = insns[insn]!;
    if (i.kind !== 'loadImm64' || i.reference === undefined) continue;
    if (i.reference.type !== 'map' && i.reference.type !== 'mapValue') continue;
    const name = i.reference.map;
    if (!options.maps.has(name))
      refuse('unknown_map', `map ${name} is not known`, 'EBADF', insn, `verify() was given no map named ${name}.`);
    names.add(name);
    if (names.size > MAX_USED_MAPS)
      refuse(
        'too_many_maps',
        `The total number of maps per program has reached the limit of ${MAX_USED_MAPS}`,
        'E2BIG',
        insn,
      );
  }
  return [...names];
}

/** The kernel's `check_map_prog_compatibility`, as far as the program types here differ. */
function checkMaps(
  program: ProgramSpec,
  names: readonly string[],
  options: VerifyOptions,
  refuse: RefuseWithHint,
): void {
  const [, second] = names.filter(name => options.maps.get(name)?.type === 'arena');
  if (second !== undefined)
    refuse(
      'incompatible_map',
      'Only one arena per program',
      'EBUSY',
      undefined,
      `Arena ${second} is one too many: put both programs' data in one.`,
    );
  for (const type of ['cgroup_storage', 'percpu_cgroup_storage'] as const) {
    const [, another] = names.filter(name => options.maps.get(name)?.type === type);
    if (another !== undefined)
      refuse(
        'incompatible_map',
        'only one cgroup storage of each type is allowed',
        'EBUSY',
        undefined,
        `Map ${another} is one too many: put both values in one.`,
      );
  }
  if (program.type !== 'socket_filter') return;
  for (const name of names) {
    const locks = specialFields(options.maps.get(name)!, program.btf).filter(field => field.name.endsWith('spin_lock'));
    if (locks.length > 0)
      refuse(
        'incompatible_map',
        'socket filter progs cannot use bpf_spin_lock yet',
        'EINVAL',
        undefined,
        `Values of map ${name} hold a lock; use another map, or another program type.`,
      );
  }
}

/** Kernel functions are for GPL-compatible programs only, whether they are reached or not. */
function checkKfuncLicense(
  program: ProgramSpec,
  calls: readonly number[],
  options: VerifyOptions,
  refuse: RefuseWithHint,
): void {
  if (program.type === 'raw' || GPL_LICENSES.has(program.license)) return;
  const insn = calls.find(call => {
    const i = program.insns[call]!;
    return i.kind === 'callKfunc' && options.kfuncs?.has(i.name ?? '') === true;
  });
  if (insn !== undefined)
    refuse(
      'helper_not_allowed',
      'cannot call kernel function from non-GPL compatible program',
      'EINVAL',
      insn,
      `Kernel functions need a GPL-compatible licence; the program's is "${program.license}".`,
    );
}

/** What ends a function early gives its caller a number, so where the function's type is known it must be one that returns an integer. */
function checkEarlyReturns(
  { btf, insns }: ProgramSpec,
  subprograms: ReturnType<typeof findSubprograms>,
  isTailCall: (helper: number) => boolean,
  refuse: RefuseWithHint,
): void {
  for (const { name, start, end, btfId } of subprograms.slice(1)) {
    const type = btf === undefined || btfId === undefined ? undefined : btf.type(btfId);
    const prototype = type?.kind === 'func' ? btf!.type(type.type) : undefined;
    if (prototype?.kind !== 'func_proto') continue;
    const result = btf!.resolved(prototype.returnType);
    const integers = result.kind === 'int' ? result.size <= 8 : result.kind === 'enum' || result.kind === 'enum64';
    if (integers) continue;
    for (const [what, ends] of [
      ['LD_ABS', (i: Instruction) => i.kind === 'packetLoad'],
      ['tail_call', (i: Instruction) => i.kind === 'callHelper' && isTailCall(i.helper)],
    ] as const) {
      const insn = insns.findIndex((i, at) => at >= start && at < end && ends(i));
      if (insn >= 0)
        refuse(
          'invalid_return_value',
          `${what} is only allowed in functions that return 'int'.`,
          'EINVAL',
          insn,
          `Let ${name} return an int.`,
        );
    }
  }
}

/** What a program starts with: r1 and, for `raw`, r2. */
function initialState(a: Analysis): State {
  const state = new State([Frame.enter(-1, 0, false, a.stackLiveness.root(0))]);
  if (a.program.type !== 'raw') {
    state.registers[1] = register('context');
    return state;
  }
  const { min, max } = a.options.memorySize ?? { min: 0, max: MAX_MEMORY };
  state.rawSize = min;
  state.registers[1] = max === 0 ? ZERO_SCALAR : register('raw');
  state.registers[2] =
    min === max
      ? scalarRegister(constant(BigInt(min)))
      : register('scalar', { value: range(BigInt(min), BigInt(max)), id: RAW_SIZE_ID });
  return state;
}

/** Each global function that was called, and those that these call, once. */
function verifyGlobals(a: Analysis): void {
  const verified = new Set<number>();
  // In rounds from the first function to the last, as the kernel does it: verifying one may reach others.
  for (let index = 0; verified.size < a.reachedGlobals.size; index = (index + 1) % a.cfg.subprograms.length) {
    if (!a.reachedGlobals.has(index) || verified.has(index)) continue;
    verified.add(index);
    const { name, start } = a.cfg.subprograms[index]!;
    a.root = index;
    a.insn = start;
    const state = new State([Frame.enter(-1, index, false, a.stackLiveness.root(index))]);
    a.state = state;
    if (a.log.level > 0) a.log.write(`Validating ${name}() func#${index}...`);
    initialArguments(a, index).forEach((argument, position) => {
      state.registers[position + 1] = argument;
    });
    state.rawSize = a.options.memorySize?.min ?? 0;
    interpret(a, start, state);
    if (a.log.level > 0) a.log.write(`Func#${index} ('${name}') is safe for any args that match its prototype`);
  }
  a.root = 0;
}
