import { nativePlatform } from './computer.ts';
import { tailCallSuite } from './suites/tail-call.ts';

tailCallSuite(nativePlatform);
