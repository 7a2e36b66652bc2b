// @ts-check
/**
 * How the page finds, copies and fills its elements.
 *
 * The names in `data-test` are what this code and the tests in the browser both find elements by: a name that changes changes for
 * both. Text of users only ever becomes a text node, so that it can be no markup.
 */

/**
 * A kind of element, as `instanceof` knows it.
 * @template {Element} E
 * @typedef {abstract new (...given: any[]) => E} Kind
 */

/**
 * The element of this name below `root`.
 * @template {Element} E
 * @param {ParentNode} root
 * @param {string} name
 * @param {Kind<E>} kind
 * @returns {E}
 */
export function named(root, name, kind) {
  const found = root.querySelector(`[data-test="${name}"]`);
  if (!(found instanceof kind)) throw new Error(`the page has no \`${name}\``);
  return found;
}

/**
 * The element of this id.
 * @template {Element} E
 * @param {string} id
 * @param {Kind<E>} kind
 * @returns {E}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no #${id}`);
  return found;
}

/**
 * A fresh copy of what a template holds.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function copyOf(id) {
  const copy = document.importNode(byId(id, HTMLTemplateElement).content, true).firstElementChild;
  if (!(copy instanceof HTMLElement)) throw new Error(`#${id} holds nothing`);
  return copy;
}

/**
 * Shows a text, or hides the element where there is none.
 * @param {HTMLElement} element
 * @param {string} text
 */
export function say(element, text) {
  // What stays as it is shall not be read aloud again.
  if (element.textContent !== text) element.textContent = text;
  element.hidden = text === "";
}

/**
 * Hides one thing and shows another. Focus that would be lost with the first goes to the second.
 * @param {HTMLElement[]} gone
 * @param {HTMLElement[]} shown
 */
export function swap(gone, shown) {
  const { activeElement } = document;
  const wasFocused = gone.some((element) => element.contains(activeElement));
  for (const element of gone) element.hidden = true;
  for (const element of shown) element.hidden = false;
  if (!wasFocused) return;
  for (const element of shown) {
    const target = element.matches("button, input") ? element : element.querySelector("button:not([hidden]), input");
    if (target instanceof HTMLElement) return target.focus();
  }
}

/**
 * A moment as a `time` element has it: in words for people, whole for programs.
 * @param {HTMLTimeElement} element
 * @param {Date} moment
 */
export function date(element, moment) {
  if (Number.isNaN(moment.getTime())) return;
  element.dateTime = moment.toISOString();
  element.textContent = CLOCK.format(moment);
  element.title = moment.toISOString();
}

/** Local time, to the millisecond: pushes are that fast. */
const CLOCK = new Intl.DateTimeFormat("en-GB", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
});
