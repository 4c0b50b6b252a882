/**
 * Pass: arena pointers.
 *
 * Reads: `arena`, `arenaArithmetic`, and the memory kind of loads, stores and atomics. Writes: casts as moves; 64-bit arithmetic
 * on arena pointers in 32 bits, as the kernel does; in front of each access to the arena, code that computes its address.
 * Assumes: the arena is among the used maps, its bytes share the upper half of their address. Throws: LoweringError
 * `bad_facts` for an access to the arena by any other instruction, `unknown_map`.
 *
 * The verifier lets an arena pointer have any value. So the access is made through `ax`: the lower half of pointer plus
 * offset, less the arena's first address, is where in the arena the access starts. If it would not end in it, it goes to
 * a hole behind the arena instead: one that holds zeros for loads, one that nobody reads for stores. An atomic that changes
 * memory is left out, so that the register which would get the old value keeps its own. The kernel gives the same results by
 * handling the page fault.
 */

import type { Atomic, Instruction, Load, Reference, Register, Store } from '../../isa/instruction.ts';
import { ARENA_PAGE, ARENA_READ_HOLE, ARENA_WRITE_HOLE } from '../../maps/arena-map.ts';
import { MapFlag } from '../../maps/uapi.ts';
import { AX, aluRegister, jumpIf, loadReference, move32 } from '../build.ts';
import type { Draft, LoweringInput } from '../draft.ts';
import { LoweringError } from '../errors.ts';
import { type Edit, rewrite } from '../rewrite.ts';
import { usedMapIndex } from '../used-maps.ts';

interface Arena {
  readonly reference: Extract<Reference, { readonly type: 'mapValueAddress' }>;
  readonly bytes: number;
  /** Casts to the user's address space give its whole address. */
  readonly userPointers: boolean;
}

export function confineToArena(draft: Draft, input: LoweringInput): Draft {
  const { facts } = input;
  if (facts.arena === undefined) return draft;
  const spec = input.maps.get(facts.arena);
  const arena: Arena = {
    reference: { type: 'mapValueAddress', index: usedMapIndex(input, facts.arena, 0), offset: 0 },
    bytes: (spec?.maxEntries ?? 0) * ARENA_PAGE,
    userPointers: ((spec?.flags ?? 0) & MapFlag.noUserConv) === 0,
  };
  const edits = new Map<number, Edit>();
  draft.insns.forEach((insn, slot) => {
    const origin = draft.origin[slot]!;
    if (insn.kind === 'addrSpaceCast') {
      edits.set(slot, { code: cast(insn.dst, insn.src, insn.toSpace === 1 && arena.userPointers, arena) });
    } else if (insn.kind === 'alu' && facts.arenaArithmetic?.has(origin)) {
      edits.set(slot, { code: [{ ...insn, width: 32 }] });
    } else if (facts.memoryKind.get(origin) === 'arena') {
      if (insn.kind !== 'load' && insn.kind !== 'store' && insn.kind !== 'atomic') {
        throw new LoweringError(
          'bad_facts',
          `${input.name}: instruction ${origin} (${insn.kind}) is said to access the arena, but only loads, stores and atomics can`,
          { program: input.name, insn: origin },
        );
      }
      edits.set(slot, { code: access(insn, arena) });
    }
  });
  return rewrite(draft, edits);
}

const alu32 = (op: 'add' | 'mov', dst: Register, imm: number): Instruction => ({
  kind: 'alu',
  op,
  width: 32,
  dst,
  src: undefined,
  imm,
});

/** The lower half; for user space, unless that is null, with the upper half that all addresses of the arena share. */
function cast(dst: Register, src: Register, forUser: boolean, arena: Arena): Instruction[] {
  if (!forUser) return [move32(dst, src)];
  const upperHalf: Instruction[] = [
    ...loadReference(AX, arena.reference),
    { kind: 'alu', op: 'rsh', width: 64, dst: AX, src: undefined, imm: 32 },
    { kind: 'alu', op: 'lsh', width: 64, dst: AX, src: undefined, imm: 32 },
    aluRegister('or', dst, AX),
  ];
  return [move32(dst, src), jumpIf('eq', dst, 0, upperHalf.length), ...upperHalf];
}

function access(insn: Load | Store | Atomic, arena: Arena): Instruction[] {
  const reads = insn.kind === 'load' || (insn.kind === 'atomic' && insn.op === 'loadAcquire');
  const base = reads ? insn.src : insn.dst;
  const last = arena.bytes - insn.size;
  const position: Instruction[] = [
    move32(AX, base),
    ...(insn.offset === 0 ? [] : [alu32('add', AX, insn.offset)]),
    { kind: 'aluAddress', op: 'sub', width: 32, dst: AX, reference: arena.reference },
  ];
  const inArena: Instruction[] = [
    { kind: 'aluAddress', op: 'add', width: 64, dst: AX, reference: arena.reference },
    reads ? { ...insn, src: AX, offset: 0 } : { ...insn, dst: AX, offset: 0 },
  ];
  if (insn.kind === 'atomic' && insn.op !== 'loadAcquire' && insn.op !== 'storeRelease') {
    return [
      ...resultAsWide(insn),
      ...position,
      { kind: 'jump', op: 'gt', width: 32, dst: AX, src: undefined, imm: last | 0, offset: inArena.length },
      ...inArena,
    ];
  }
  const hole = arena.bytes + (reads ? ARENA_READ_HOLE : ARENA_WRITE_HOLE);
  return [
    ...position,
    { kind: 'jump', op: 'le', width: 32, dst: AX, src: undefined, imm: last | 0, offset: 1 },
    alu32('mov', AX, hole | 0),
    ...inArena,
  ];
}

/** The verifier knows the result of a 4-byte atomic as 32 bits wide; so must the register be that keeps its value instead. */
function resultAsWide(insn: Atomic): Instruction[] {
  if (insn.size !== 4) return [];
  if (insn.op === 'cmpxchg') return [move32(0, 0)];
  return insn.fetch || insn.op === 'xchg' ? [move32(insn.src, insn.src)] : [];
}
