"""The word lists of `vocabulary`, by family of labels; the format is described there.

Law: data only, general words of English, Spanish, German, French, Portuguese, Italian, Polish, Dutch, Turkish,
Japanese and Hindi.
"""

from __future__ import annotations

from collections.abc import Mapping


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAMES: Mapping[str, frozenset[str]] = {
    "billing": _set(
        "billing bill bills payment payments finance invoicing invoices accounting accounts refund refunds"
    ),
    "sales": _set("sales sale presales commercial purchase purchasing leads lead"),
    "support": _set("support technical tech helpdesk help bug bugs incident incidents engineering troubleshooting it"),
    "account": _set("account login access authentication password security"),
    "shipping": _set("shipping delivery logistics orders order fulfilment fulfillment"),
    "cancel": _set("cancel cancellation churn retention"),
    "feature": _set("feature features feedback suggestion idea request"),
    "positive": _set("positive pos good happy praise satisfied"),
    "negative": _set("negative neg bad unhappy complaint complaints dissatisfied"),
    "spam": _set("spam junk phishing scam"),
    "ham": _set("ham legit legitimate"),
    "urgent": _set("urgent critical high emergency p1 escalate"),
    "normal": _set("normal low routine p3 nonurgent"),
    "yes": _set("yes true"),
    "no": _set("no false"),
}

WORDS: Mapping[str, str] = {
    "billing": """
        $, €, £, usd, eur, checkout:2, declin*:2, cancel*, subscription, pause*, unused:2, money:2, promo*,
        coupon*:2, voucher*,
        prepaid:2, card details:2, payment method:2, paid plan, have paid:2, haven't paid:2, i paid:2, we paid:2,
        i pay:2, we pay:2,
        charging:2, expire*, accountant*:2, bookkeep*:2, auditor*, sales tax:2, tax exempt*:2,
        vat number:2, company name, legal name,
        billing address:2, billing email:2, credited, credits, total, subtotal,
        price increase, auto-renew:2, auto-renews:2, auto-renewal:2, renew*:2, downgrad*:2,
        monthly to annual, annual to monthly,
        invoic*:2, bill, bills, billed:2, billing:2, charge, charges, charged:2, overcharg*:2, refund*:2, payment*,
        paid,
        pay, paying, debit*:2, credit card, credit note:2, card, receipt*:2, vat:2, tax, taxes, tax id, iban, bank*,
        transaction*, subscription fee, renewal, prorat*, double charge, twice, statement, wire transfer, sepa,
        paypal,
        purchase order, money back:2, balance, due, overdue:2, dunning, past due, late fee, reimburs*:2, payout*,
        fee, fees, amount,
        factura*:2, cobr*:2, reembols*:2, pago*, tarjeta*, iva, recibo*, cargo, cargos, impuesto*, dinero,
        rechnung*:2, abgebucht*:2, abbuchung*:2, ruckerstatt*:2, erstatt*:2, gutschrift*:2, zahlung*, bezahl*,
        kreditkarte*, mwst,
        lastschrift*:2, uberweis*, mahnung*:2, beleg, quittung*:2, umsatzsteuer*, belast*,
        facture*:2, facturation:2, rembours*:2, paiement*, preleve*:2, prelevement*:2, carte, tva, debite*, debitee,
        paye, recu, avoir,
        fatura*:2, cobranc*:2, estorn*:2, pagament*, cartao, imposto*, boleto*, nota fiscal, debitad*, recibos,
        fattur*:2, rimbors*:2, addebit*:2, carta, ricevut*, pagat*,
        faktur*:2, zwrot*:2, platnos*, zaplac*, kart*, obciaz*:2, pobran*:2, rachun*, podatek,
        factuur*:2, facturen:2, terugbetal*:2, afgeschreven:2, betaling*, betaald, btw, incasso*, creditnota,
        rekening*,
        fatura*, iade*:2, odeme*, kart*, ucret*, tahsil*, kdv, cekil*, para,
        請求:2, 返金:2, 支払, 課金:2, 領収:2, カード, 料金, 引き落とし:2, 二重, 消費税,
        बिल, चालान:2, इनवॉइस:2, रिफंड:2, भुगतान, पैसे, कार्ड, शुल्क, धनवापसी:2, जीएसटी, वापस
    """,
    "sales": """
        we are a, we're a, we are an, which plan:2, would fit, thinking of, considering:2, looking for,
        looking at, before we buy:2, before i buy:2, before we commit:2, before signing:2,
        company of, people, ppl, employees:2, founders, startup*, government, school*, university, charity:2,
        non-profit:2, nonprofits:2, education*, agency, agencies, deal:2, cheap*, upfront,
        recommend*, referral:2, commission, affiliate*, talk to sales:2, account executive:2,
        call back, contact me, send me a, budget*:2, quarter, tender:2, rfi, questionnaire:2, self-hosted,
        self-hosting, self host, on-premise:2, on-premises:2, private cloud:2, data residency, hosting,
        sla, gdpr, soc 2, iso 27001, dpa, do you offer:2, do you have, do you support,
        is there a version, does your, can your, switching from:2, migrate from:2, coming from, add more users,
        more seats:2, additional seats:2, user limit:2, promotion,
        proposta comercial:2, propuesta:2, proposition commerciale:2, colaborador*, mitarbeiter*, salaries,
        dipendenti, medewerkers, pracownik*, calisan*, 社で, कर्मचारी,
        quot*:2, demo*:2, pricing:2, price, prices, price list, upgrad*:2, plan, plans, seat, seats:2, trial*:3,
        discount*:2, buy:2, buying:2,
        purchas*, contract*, enterprise, licen*, offer, offers, volume, interested, interest, evaluat*, procurement,
        vendor, rfp:2, proposal*,
        sales, compar*:2, competitor*:2, order form, nonprofit*, reseller*:2, partner*, how much:2, talk to someone,
        cost, costs, per user, per month,
        team of, employees, users, tier, tiers, package*, pilot, poc, switch to, sign up, rollout,
        cotiz*:2, presupuest*:2, comprar:2, descuento*:2, precio*, demostracion:2, licencia*, plan, planes,
        contratar, oferta*, usuarios, prueba, interesad*,
        angebot*:2, kaufen:2, rabatt*:2, preis, preise*, vorfuhrung*, lizenz*, vertrag*, tarif*, testversion*,
        testphase, interess*, mengenrabatt*, arbeitsplatz*, upgrade,
        devis:2, acheter:2, remise*:2, prix, demonstration*:2, licence*, offre*, forfait*, essai, contrat*, tarifs,
        interesse*, postes, utilisateurs,
        orcament*:2, cotac*:2, desconto*:2, preco*, demonstrac*:2, licenc*, contrat*, plano*, teste gratuito,
        usuarios, assinar,
        preventiv*:2, acquist*:2, sconto:2, sconti:2, prezz*, dimostrazion*, licenz*, offert*, contratt*, piano,
        piani, prova, utenti,
        wycen*:2, ofert*:2, kupic:2, rabat*:2, znizk*:2, cen, cena, ceny, cennik*:2, prezentac*, licencj*, umow*,
        plan, okres probny, zakup*, stanowisk*,
        offerte*:2, kopen:2, korting*:2, prijs*, licenti*, abonnement*, proefperiode*:2, proefversie*:2, contract*,
        gebruikers, aanschaf*, interesse,
        teklif*:2, fiyat*:2, satin al*:2, satin alma:2, indirim*:2, lisans*, paket*, deneme*, sozlesme*, kullanici,
        kisilik,
        見積:2, 購入:2, 割引:2, 価格, デモ:2, プラン, ライセンス, 導入, 契約, トライアル:2, 資料, アップグレード:2,
        検討,
        कोटेशन:2, डेमो:2, खरीद:2, छूट:2, कीमत:2, मूल्य, योजना, प्लान, लाइसेंस, दाम, ट्रायल
    """,
    "support": """
        how do i, how can i, how to:2, how does, is it possible, possible to, can i, can you tell me,
        could you tell me, where is, where do i, where can i, why is, why does, why do, what is the difference:2,
        due date:2, due dates:2, task*, board*, calendar, view, views, file, files, folder*, column*, row, rows,
        filter*, sort*, comment*, attach*, template*, automation*, rule, rules, reminder*:2, gantt, timeline,
        widget*, editor, workspace*, project*, field*, zoom*,
        print*, spreadsheet, csv, pdf, excel, shortcut*, keyboard, mobile, desktop app:2, windows, mac, linux,
        firefox, safari, feature request:2, dark mode:2, spinner, admin rights:2, owner, read only:2,
        read-only:2, greyed out, rate limit:2, rate limits:2, rate limited:2, endpoint, token, oauth, saml, scim:2,
        ldap, encrypt*, header*,
        expected:2, actual, steps, reproduc*:2, ignores:2, overlap*:2, duplicat*, disappeared:2, vanish*:2, wrong,
        shows, nothing happens:2, doesnt:2, dont, cant, wont, isnt, didnt, again, maintenance,
        visible,
        yuklenemiyor, yukleme, gorunmuyor:2, yardim, dosya, archivo*, datei*, fichier*, arquivo*,
        plik*, bestand*, ayuda, hilfe, aide, ajuda, aiuto, pomoc, hulp,
        error*:2, crash*:2, login*:2, log in:2, logged out:2, sign in, bug, bugs:2, broken:2, broke, slow*, cannot,
        can't, could not, couldn't, unable:2, password*:2, sync*:2,
        fail*:2, not working:2, doesn't work:2, does not work:2, stopped working:2, won't, doesn't, isn't, freez*:2,
        frozen:2, hang, hangs, stuck:2, timeout*:2, timed out:2, time out,
        install*, api, outage*:2, downtime:2, down, reset*, 2fa, mfa, sso, loading, load, loads, blank, upload*,
        download*, export*, import*, notification*, integration*,
        webhook*, configur*, setup, set up, screen, browser, chrome, android, ios, iphone, app, page, button,
        latency, locked:2, verification, missing, disappear*, troubleshoot*:2, issue, problem, problems, connect*,
        disconnect*:2, update, updating, version, server, dashboard, wrong data, logs, log,
        404, 500, 502, 503, exception*, stack trace, permission*, delet*, backup, restor*, recover*, lost, emails,
        inbox,
        contrasena*:2, fallo*, falla*:2, error, errores:2, no funciona:2, no puedo:2, lento*, lenta, bloque*, caid*,
        sesion*:2, pantalla, no carga, sincroniz*:2, acceder, iniciar,
        fehler*:2, absturz*:2, sturzt*:2, passwort*:2, kennwort*, anmeld*:2, einlogg*:2, kaputt:2, langsam*,
        funktioniert nicht:2, geht nicht:2, ladt nicht, synchronis*:2, hangt, gesperrt, kann nicht, kann ich nicht,
        kann mich nicht:2, problem*, zuruckset*, bildschirm,
        erreur*:2, plant*:2, mot de passe:2, connexion*:2, ne fonctionne:2, fonctionne pas:2, marche pas:2, lent,
        lente*, bloqu*, panne*:2, impossible:2, connecter, ecran, n'arrive pas:2, ne peux, probleme*,
        erro, erros:2, senha*:2, nao funciona:2, nao consigo:2, travan*:2, trava*, lento, login, entrar, tela,
        carregar, sincroniza*,
        errore:2, errori:2, non funziona:2, non riesco:2, blocca*, accede*, lenta, schermata, schermo, si chiude:2,
        sincronizz*,
        blad:2, bledy:2, bledu:2, haslo:2, hasla:2, nie dziala:2, nie moge:2, zalogow*:2, logow*, zawiesza*:2,
        wolno, awari*:2, ekran*, synchroniz*, resetow*,
        fout:2, fouten:2, foutmelding*:2, wachtwoord*:2, werkt niet:2, inlogg*:2, vastgelopen:2, loopt vast:2,
        traag:2, kapot:2, storing*:2, kan niet, lukt niet:2, scherm, laadt niet, crasht,
        hata:2, hatasi:2, sifre*:2, calismiyor:2, giris*:2, acilmiyor:2, yavas*, coku*:2, dondu*, donuyor, sorun*,
        yapamiyorum, olmuyor, ekran, senkron*,
        エラー:2, ログイン:2, パスワード:2, 動かない:2, 動きません:2, できません, できない, 遅い, クラッシュ:2,
        不具合:2, 障害:2, 同期:2, 表示され, 画面, 落ちる, 起動,
        त्रुटि:2, लॉगिन:2, लॉग इन:2, पासवर्ड:2, काम नहीं:2, क्रैश:2, धीमा, धीमी, समस्या, खराब, नहीं खुल:2, एरर:2,
        सिंक:2, नहीं कर पा
    """,
    "account": """
        account*, password*:2, login*:2, log in:2, sign in:2, username*, locked:2, 2fa, mfa, profile, email address,
        verif*, access
    """,
    "shipping": """
        ship*:2, deliver*:2, parcel*:2, package*, courier*:2, tracking:2, arriv*:2, late, warehouse, postal, order
    """,
    "cancel": """
        cancel*:2, unsubscrib*:2, terminat*, close my account:2, leave, leaving, stop, end my
    """,
    "feature": """
        feature*:2, suggest*:2, would be nice:2, would love:2, wish:2, please add:2, idea*, could you add:2,
        dark mode, support for, roadmap
    """,
    "positive": """
        good, great:2, love*:2, excellent:2, amazing:2, awesome:2, perfect*:2, happy:2, nice, best:2, wonderful:2,
        fantastic:2, thank*, like, enjoy*, helpful, recommend*,
        fast, easy, impress*, delight*:2, pleas*, brilliant:2, bueno, excelente:2, gut, toll, super, genial,
        parfait, otimo, ottimo, swietn*, geweldig, harika
    """,
    "negative": """
        bad:2, terrible:2, awful:2, hate*:2, worst:2, poor*:2, disappoint*:2, horrible:2, broken, slow, useless:2,
        waste*:2, never again:2, angry, annoy*:2, refund*,
        not good:3, not happy:3, not great:3, don't like:3, problem*, fail*, unusable:2, rude:2, unhappy:2,
        frustrat*:2, malo, horrible, schlecht*, nul, pessimo, ruim, zly, slecht*, kotu
    """,
    "spam": """
        winner*:2, won:2, prize*:2, lottery:2, viagra, free, click:2, claim*:2, urgent, congratulation*:2, cash,
        offer, crypto, bitcoin, inherit*:2, prince, act now:2,
        limited time:2, guarantee*, casino, unsubscribe, million, deal, earn, loan
    """,
    "ham": """
        meeting:2, tomorrow, lunch, attached, thanks, regards, project, report, agenda, see you, schedule, team,
        monday, call me
    """,
    "urgent": """
        urgent*:2, asap:2, immediately:2, emergency:2, critical:2, outage:2, right now:2, down, production, cannot,
        can't, blocked:2, deadline, today, data loss, breach*:2, security, stopped, all users, everyone, losing
    """,
    "normal": """
        question, whenever, no rush:2, no hurry:2, wondering, curious, minor, suggestion, sometime, next week,
        would like, how do i, feedback
    """,
    "yes": """
        yes:2, yeah, yep, sure, definitely, agree*, correct, indeed, of course, absolutely, true
    """,
    "no": """
        no, not, never, nope, don't, disagree*, incorrect, wrong, isn't, false
    """,
}
