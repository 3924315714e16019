// Takes pictures of a page: node pictures.js PAGE PREFIX, at phone and desktop width, in both colours.
const { chromium } = require("playwright-core");

(async () => {
  const [page, prefix] = process.argv.slice(2);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
  });
  for (const [name, width] of [["phone", 360], ["desktop", 760]]) {
    for (const colorScheme of ["light", "dark"]) {
      const context = await browser.newContext({ viewport: { width, height: 1400 }, colorScheme });
      const tab = await context.newPage();
      await tab.goto(page);
      const wide = await tab.evaluate(() => document.documentElement.scrollWidth);
      if (wide > width) console.error(`${page} is ${wide} wide at ${width}`);
      await tab.screenshot({ path: `${prefix}-${name}-${colorScheme}.png` });
      await context.close();
    }
  }
  await browser.close();
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
