// Uses the status page as a person does; the address and the token are given. Writes what it saw as JSON.
const { chromium } = require("playwright-core");
const axe = require("axe-core");

// Milliseconds for whatever is waited for: a busy machine may take its time.
const PATIENCE = 180000;

(async () => {
  const [url, token] = process.argv.slice(2);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"],
    timeout: PATIENCE,
  });
  const context = async (options) => {
    const made = await browser.newContext(options);
    made.setDefaultTimeout(PATIENCE);
    return made;
  };
  const seen = { errors: [] };
  const tab = await (await context({ viewport: { width: 1000, height: 900 } })).newPage();
  // Whatever the policy refuses is an error of the console.
  tab.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  tab.on("pageerror", (error) => seen.errors.push(String(error)));
  await tab.goto(url + "/");
  seen.before = { title: await tab.title(), buttons: await tab.getByRole("button", { name: "Show the plan" }).count() };
  const refused = await tab.evaluate(async () => (await fetch("/runs", { method: "POST", body: "what=analyze@app" })).status);
  seen.refused = refused;
  // The browser itself says so in the console: expected.
  seen.errors = seen.errors.filter((text) => !text.includes("403"));

  await tab.getByRole("link", { name: "log in" }).click();
  await tab.getByLabel("token").fill("wrong");
  await tab.getByRole("button", { name: "Log in" }).click();
  seen.wrong = await tab.getByRole("alert").textContent();
  seen.errors = seen.errors.filter((text) => !text.includes("403"));
  await tab.getByLabel("token").fill(token);
  await tab.keyboard.press("Enter");

  await tab.getByLabel("task and target").selectOption("analyze@app");
  await tab.getByRole("button", { name: "Show the plan" }).click();
  seen.plan = (await tab.locator("main").innerText()).replace(/\s+/g, " ");
  await tab.getByRole("button", { name: "Run now" }).click();
  // The run's own page comes, and says what it is about; the first page is what moves by itself.
  await tab.getByRole("heading", { name: "At work" }).waitFor();
  seen.begun = tab.url();
  await tab.goto(url + "/");
  // Nobody loads the page again: the server tells what is at work.
  const running = tab.locator("#running");
  await running.getByText("waiting:").waitFor();
  seen.progress = (await running.innerText()).replace(/\s+/g, " ");
  await running.getByRole("button", { name: "Cancel" }).click();
  await tab.getByText("asked to stop").waitFor();
  seen.asked = await tab.title();
  // The page of a run that is at work loads itself again.
  await tab.locator("dl").getByText("cancelled").waitFor();
  seen.record = (await tab.locator("main").innerText()).replace(/\s+/g, " ");
  seen.run = tab.url();
  if (process.env.MAINT_TEST_PICTURES) {
    for (const path of ["/", "/runs", "/tasks", "/findings", "/report"]) {
      await tab.goto(url + path);
      await tab.screenshot({ path: `${process.env.MAINT_TEST_PICTURES}/page${path.replace("/", "-")}.png` });
    }
  }
  // The order of the keyboard: the first stop leads past the navigation.
  await tab.goto(url + "/runs");
  await tab.keyboard.press("Tab");
  seen.first_stop = await tab.evaluate(() => document.activeElement.textContent);
  // Without JavaScript nothing is missing but the movement.
  const plain = await (await context({ javaScriptEnabled: false, viewport: { width: 360, height: 700 } })).newPage();
  await plain.goto(url + "/");
  await plain.getByLabel("token").fill(token);
  await plain.getByRole("button", { name: "Log in" }).click();
  await plain.locator("#running").waitFor();
  seen.plain = await plain.locator("h2").allTextContents();
  for (const path of ["/", "/runs", "/tasks", "/findings", "/trends", "/report", "/next"]) {
    await tab.setViewportSize({ width: 360, height: 700 });
    await tab.goto(url + path);
    const wide = await tab.evaluate(() => document.documentElement.scrollWidth);
    if (wide > 360) seen.errors.push(`${path} is ${wide} wide`);
  }
  // Whether everybody can read it: WCAG 2.2, levels A and AA, at three widths, in both schemes.
  seen.unreadable = [];
  seen.judged = 0;
  const state = await tab.context().storageState();
  for (const colorScheme of ["light", "dark"]) {
    const judge = await (await context({ colorScheme, storageState: state })).newPage();
    for (const path of ["/", "/runs", new URL(seen.run).pathname, "/tasks", "/findings", "/fleet", "/trends", "/report", "/next", "/login", "/nowhere", "/plan?what=analyze@app"]) {
      await judge.goto(url + path);
      // What every page is tried with is run by the browser's own hand, not by the page.
      await judge.evaluate(axe.source);
      for (const width of [360, 768, 1280]) {
        await judge.setViewportSize({ width, height: 800 });
        const found = await judge.evaluate(() => window.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        seen.judged += found.passes.length ? 1 : 0;
        for (const one of found.violations) {
          seen.unreadable.push(`${path} ${colorScheme} ${width}: ${one.id}: ${one.nodes.map((node) => node.target.join(" ")).slice(0, 3).join("; ")}`);
        }
      }
    }
  }
  const lost = await tab.goto(url + "/nowhere");
  seen.lost = { status: lost.status(), heading: await tab.locator("h1").textContent() };
  // The browser itself says so in the console: expected.
  seen.errors = seen.errors.filter((text) => !text.includes("404"));
  await browser.close();
  console.log(JSON.stringify(seen));
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
