import { nativePlatform } from './computer.ts';
import { executionSuite } from './suites/execution.ts';

executionSuite(nativePlatform);
